"""Temporal measures against scipy and against series whose answer is known."""

import numpy as np
import pytest
from scipy import signal

from fmrilm.descriptors.measures import spectra

T_R = 2.0


@pytest.fixture(params=[160, 161])
def courses(request):
    return np.random.default_rng(0).normal(size=(5, request.param)).cumsum(axis=1)


def test_spectrum_equals_scipy(courses):
    frequencies, power = spectra.power_spectrum(courses, T_R)
    f, p = signal.periodogram(courses, 1 / T_R, detrend="linear")
    np.testing.assert_allclose(frequencies, f)
    np.testing.assert_allclose(power, p, atol=1e-9 * p.max())
    np.testing.assert_allclose(spectra.detrend(courses), signal.detrend(courses), atol=1e-9)


def test_falff_equals_its_definition_on_scipy_spectra(courses):
    f, p = signal.periodogram(courses, 1 / T_R, detrend="linear")
    amplitude = np.sqrt(p)
    low = amplitude[:, (f >= 0.01) & (f <= 0.08)].sum(1)
    expected = low / amplitude[:, 1:].sum(1)
    result = spectra.falff(*spectra.power_spectrum(courses, T_R))
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_spectral_ratio_equals_its_definition_on_scipy_spectra(courses):
    f, p = signal.periodogram(courses, 1 / T_R, detrend="linear")
    slow = p[:, (f >= 0.01) & (f <= 0.1)].sum(1)
    fast = p[:, (f > 0.1) & (f <= 0.25)].sum(1)
    result = spectra.spectral_ratio(*spectra.power_spectrum(courses, T_R))
    np.testing.assert_allclose(result, np.log10(slow / fast), rtol=1e-6)


def test_a_slow_wave_has_all_its_amplitude_low():
    time = np.arange(200) * T_R
    courses = np.stack((np.sin(2 * np.pi * 0.05 * time), np.sin(2 * np.pi * 0.2 * time)))
    low, high = spectra.falff(*spectra.power_spectrum(courses, T_R))
    assert low > 0.9
    assert high < 0.1


def test_ratio_is_unknown_when_sampling_is_too_slow():
    courses = np.random.default_rng(0).normal(size=(2, 60))
    assert np.isnan(spectra.spectral_ratio(*spectra.power_spectrum(courses, 6.0))).all()


def test_autocorrelation_of_a_known_process():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=20_000)
    course = signal.lfilter([1], [1, -0.7], noise)[None]
    assert spectra.lag_one(course)[0] == pytest.approx(0.7, abs=0.02)


def test_every_excursion_counts_once():
    course = np.tile([0.1, -0.1], 60)[None]
    course[0, [20, 21, 50]] = 9
    course[0, [51, 52]] = -9
    assert spectra.transient_rate(course, T_R)[0] == pytest.approx(3 / (120 * T_R / 60))


def test_amplitude_variability_is_zero_for_a_steady_wave():
    steady = np.tile([1.0, -1.0, 0.0], 60)[None]
    bursts = steady * np.repeat([1, 5, 1, 5, 1, 5, 1, 5, 1, 5, 1, 5], 15)
    assert spectra.amplitude_variability(steady, T_R)[0] == pytest.approx(0)
    assert spectra.amplitude_variability(bursts, T_R)[0] > 0.5
    assert np.isnan(spectra.amplitude_variability(steady[:, :20], T_R)[0])
