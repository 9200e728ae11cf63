import numpy as np
import pytest

from fmrilm.errors import InputError
from fmrilm.preparation.denoising.denoise import Cleaning, clean_series, fill_gaps, load_nuisance

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


def test_regressors_that_leave_nothing_are_refused(parts):
    with pytest.raises(InputError, match="20 regressors leave nothing of 25 volumes"):
        clean_series(parts[2][:, :25], T_R, Cleaning("simple"), np.ones((25, 20)))


def test_gaps_are_filled_along_straight_lines():
    found = fill_gaps(np.array([[0.0, 1.0, 4.0]]), np.array([0, 1, 4]), 5)
    np.testing.assert_allclose(found, [[0, 1, 2, 3, 4]])


def test_nothing_is_regressed_only_where_that_is_asked_for_or_there_are_no_confounds(tmp_path):
    image = tmp_path / "sub-1_task-rest_desc-preproc_bold.nii.gz"
    assert load_nuisance(image, None, None, 5, Cleaning()).strategy == "none"
    with pytest.raises(InputError, match="strategy simple needs fMRIPrep's confounds"):
        load_nuisance(image, None, None, 5, Cleaning("simple"))
    with pytest.raises(InputError, match="strategy=none regresses nothing"):
        Cleaning("none", confounds={"motion": "full"})
    with pytest.raises(InputError, match="did you mean 'global_signal'"):
        Cleaning(confounds={"global_singal": "full"})


def test_a_scratch_folder_whose_name_holds_tsv_is_not_given_to_nilearn(monkeypatch):
    from fmrilm.preparation.denoising.regressors import _scratch_folder

    names = iter(["a_tsv_b", "plain"])
    monkeypatch.setattr("tempfile._get_candidate_names", lambda: names)
    with _scratch_folder() as folder:
        assert folder.endswith("plain")
