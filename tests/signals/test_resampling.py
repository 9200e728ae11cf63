import numpy as np
import pytest

from fmrilm.errors import InputError
from fmrilm.signals.resample import fit_length, pad_time, resample


def _sine(frequency, t_r, duration=400):
    return np.sin(2 * np.pi * frequency * np.arange(0, duration, t_r))[None]


@pytest.mark.parametrize("frequency", [0.27, 0.35, 0.45, 0.65])
def test_a_wave_above_the_new_nyquist_frequency_is_removed_and_linear_lets_it_alias(frequency):
    wave = _sine(frequency, 0.735)  # new Nyquist frequency: 0.25 Hz
    inner = slice(10, -10)
    assert np.abs(resample(wave, 0.735, 2.0)[:, inner]).max() < 0.02
    assert np.abs(resample(wave, 0.735, 2.0, "linear")[:, inner]).max() > 0.25


@pytest.mark.parametrize("t_r", [0.72, 0.735, 0.8, 1.5, 2.5, 3.0])
@pytest.mark.parametrize("frequency", [0.01, 0.05, 0.1])
def test_the_bold_band_comes_through_unchanged_and_in_time(t_r, frequency):
    found = resample(_sine(frequency, t_r), t_r, 2.0)
    wanted = np.sin(2 * np.pi * frequency * 2.0 * np.arange(found.shape[1]))
    np.testing.assert_allclose(found[0, 20:-20], wanted[20:-20], atol=0.01)


def test_a_constant_stays_itself_up_to_the_edges():
    np.testing.assert_allclose(resample(np.full((2, 100), 7.0), 0.8, 2.0), 7.0)


def test_nothing_is_extrapolated_and_the_same_tr_changes_nothing():
    series = np.random.default_rng(0).standard_normal((3, 101))
    assert resample(series, 0.5, 2.0).shape == (3, 26)
    assert resample(series, 2.0, 2.0) is series


def test_an_absent_region_stays_absent():
    series = np.ones((2, 50), np.float32)
    series[1] = np.nan
    found = resample(series, 1.0, 2.0)
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[0]).all()
    assert found.dtype == np.float32


def test_lengths():
    series = np.arange(70.0).reshape(1, 70)
    assert [p[0, 0] for p in fit_length(series, 30, "windows")] == [0, 30]
    assert fit_length(series, 30, "clip")[0][0, -1] == 29
    assert fit_length(series, 30, "keep")[0].shape == (1, 70)
    first, again = (fit_length(series, 30, "random_clip", seed=5)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (1, 30)
    assert fit_length(series[:, :20], 30, "pad")[0].shape == (1, 20)


@pytest.mark.parametrize("method", ["clip", "windows", "random_clip"])
def test_a_short_scan_is_refused_never_stretched(method):
    with pytest.raises(InputError, match="fewer than 30"):
        fit_length(np.ones((1, 20)), 30, method)


def test_padding_is_masked():
    padded, mask = pad_time(np.ones((2, 3)), 5)
    assert mask.tolist() == [True] * 3 + [False] * 2
    assert padded[:, 3:].sum() == 0


@pytest.mark.parametrize("call", [lambda s: resample(s, 0, 2), lambda s: resample(s, 1, 2, "fft")])
def test_wrong_arguments_are_refused(call):
    with pytest.raises(InputError):
        call(np.ones((1, 10)))
