import numpy as np
import pytest

from fmrilm.data.cleaning import Cleaning, clean_series, load_confounds, read_motion
from fmrilm.errors import InputError

pytest.importorskip("nilearn", reason="needs fmrilm[imaging]")

T = 600
T_R = 0.8


@pytest.fixture
def parts():
    """Return a slow signal, a nuisance series, and their sum on two regions around 1000."""
    rng = np.random.default_rng(0)
    time = np.arange(T) * T_R
    signal = np.stack([np.sin(2 * np.pi * 0.05 * time), np.cos(2 * np.pi * 0.03 * time)])
    nuisance = rng.standard_normal(T)
    nuisance -= signal.T @ np.linalg.lstsq(signal.T, nuisance, rcond=None)[0]
    return signal, nuisance, (signal + 5 * nuisance + 1000).astype(np.float32)


def test_nothing_is_removed_by_default(parts):
    assert clean_series(parts[2], T_R, Cleaning()) is parts[2]


def test_a_confound_is_regressed_out_and_the_mean_kept(parts):
    signal, nuisance, series = parts
    found = clean_series(series, T_R, Cleaning("simple"), nuisance[:, None])
    for row in range(2):
        assert np.corrcoef(found[row], signal[row])[0, 1] > 0.99
    np.testing.assert_allclose(found.mean(1), series.mean(1), rtol=1e-4)


def test_a_band_pass_keeps_the_band(parts):
    signal = parts[0]
    fast = np.sin(2 * np.pi * 0.3 * np.arange(T) * T_R)
    line = np.linspace(0, 50, T)
    found = clean_series(
        signal + fast + line, T_R, Cleaning(detrend=True, high_pass=0.01, low_pass=0.1)
    )
    inner = slice(30, -30)
    assert np.corrcoef(found[0, inner], signal[0, inner])[0, 1] > 0.98


def test_censored_volumes_do_not_touch_the_rest_and_are_filled_in(parts):
    signal = parts[0].copy()
    spiked = signal.copy()
    spiked[:, [50, 51, 120]] += 1000
    kept = np.setdiff1d(np.arange(T), [50, 51, 120])
    found = clean_series(spiked, T_R, Cleaning("scrubbing"), np.ones((T, 1)), kept)
    np.testing.assert_allclose(
        found - found.mean(1, keepdims=True), signal - signal.mean(1, keepdims=True), atol=0.15
    )


def test_an_absent_region_stays_absent(parts):
    series = parts[2].copy()
    series[1] = np.nan
    found = clean_series(series, T_R, Cleaning(detrend=True))
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[0]).all()


def test_wrong_settings_are_refused(parts):
    series = parts[2]
    with pytest.raises(InputError, match="did you mean 'compcor'"):
        Cleaning("compcorr")
    with pytest.raises(InputError, match="not below low_pass"):
        Cleaning(high_pass=0.2, low_pass=0.1)
    with pytest.raises(InputError, match="is not below"):
        clean_series(series, T_R, Cleaning(low_pass=0.7))
    with pytest.raises(InputError, match="3 rows"):
        clean_series(series, T_R, Cleaning("simple"), np.ones((3, 1)))
    with pytest.raises(InputError, match="60%"):
        clean_series(series, T_R, Cleaning("scrubbing"), np.ones((T, 1)), np.arange(240))


def test_motion_is_read_and_its_length_checked(tmp_path):
    path = tmp_path / "x_desc-confounds_timeseries.tsv"
    path.write_text("framewise_displacement\tcsf\nn/a\t1\n0.2\t2\n0.4\t3\n")
    np.testing.assert_allclose(read_motion(path, 3), [0, 0.2, 0.4])
    assert read_motion(None, 3) is None
    with pytest.raises(InputError, match="3 rows"):
        read_motion(path, 5)


def test_missing_confounds_are_an_error_that_names_the_strategy(tmp_path):
    with pytest.raises(InputError, match="strategy simple needs fMRIPrep's confounds"):
        load_confounds(tmp_path / "sub-1_task-rest_desc-preproc_bold.nii.gz", "simple")
