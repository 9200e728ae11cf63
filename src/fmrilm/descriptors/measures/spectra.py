"""Temporal measures of time courses: spectra, fALFF, autocorrelation, transients.

Every function takes ``courses``: ndarray (n, n_timepoints), and returns one value per row.
"""

from __future__ import annotations

import numpy as np

SLOW = (0.01, 0.1)  # Hz
FAST = (0.1, 0.25)
LOW_FREQUENCY = (0.01, 0.08)  # of ALFF, Zou et al. (2008, J. Neurosci. Methods 172, 137)


def detrend(courses: np.ndarray) -> np.ndarray:
    """Return the rows without their mean and linear trend."""
    time = np.arange(courses.shape[1], dtype=np.float64)
    time -= time.mean()
    centred = courses - courses.mean(axis=1, keepdims=True)
    return centred - (centred @ time / (time @ time))[:, None] * time


def power_spectrum(courses: np.ndarray, t_r: float) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies in Hz and the one-sided periodogram of the detrended rows.

    As ``scipy.signal.periodogram(courses, 1 / t_r, detrend="linear")``.
    """
    n = courses.shape[1]
    power = np.abs(np.fft.rfft(detrend(courses), axis=1)) ** 2 * (t_r / n)
    power[:, 1 : (n + 1) // 2] *= 2
    return np.fft.rfftfreq(n, t_r), power


def band_share(
    frequencies: np.ndarray, values: np.ndarray, band: tuple[float, float]
) -> np.ndarray:
    """Return the sum of ``values`` over the frequencies low <= f <= high."""
    inside = (frequencies >= band[0]) & (frequencies <= band[1] + 1e-12)
    return values[:, inside].sum(axis=1)


def falff(frequencies: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Return the share of the amplitude that lies in 0.01-0.08 Hz, of all above 0 Hz."""
    amplitude = np.sqrt(power)
    total = amplitude[:, frequencies > 0].sum(axis=1)
    low = band_share(frequencies, amplitude, LOW_FREQUENCY)
    return np.divide(low, total, out=np.full(len(power), np.nan), where=total > 0)


def spectral_ratio(frequencies: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Return log10 of the power in 0.01-0.1 Hz over that in 0.1-0.25 Hz.

    NaN where the sampling does not reach beyond 0.1 Hz.
    """
    slow = band_share(frequencies, power, SLOW)
    fast = band_share(frequencies, power, (FAST[0] + 1e-9, FAST[1]))
    known = (slow > 0) & (fast > 0)
    ratio = np.divide(slow, fast, out=np.full(len(power), np.nan), where=known)
    return np.log10(ratio, out=ratio, where=known)


def lag_one(courses: np.ndarray) -> np.ndarray:
    """Return the autocorrelation at a lag of one time point."""
    rows = courses - courses.mean(axis=1, keepdims=True)
    total = np.einsum("ij,ij->i", rows, rows)
    product = np.einsum("ij,ij->i", rows[:, 1:], rows[:, :-1])
    return np.divide(product, total, out=np.full(len(rows), np.nan), where=total > 0)


def transient_rate(courses: np.ndarray, t_r: float, height: float = 2.0) -> np.ndarray:
    """Return how often per minute a row leaves its median by ``height`` robust SD.

    A run of time points beyond the threshold on one side counts once. The robust SD is 1.4826
    times the median absolute deviation.
    """
    centred = courses - np.median(courses, axis=1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(centred), axis=1, keepdims=True)
    beyond = np.sign(centred) * (np.abs(centred) > height * spread)
    start = (beyond != 0) & (np.diff(beyond, axis=1, prepend=0) != 0)
    return start.sum(axis=1) / (courses.shape[1] * t_r / 60)


def amplitude_variability(courses: np.ndarray, t_r: float, window: float = 30.0) -> np.ndarray:
    """Return how much the amplitude changes over the scan: SD over mean of its windows' SD.

    Windows of ``window`` seconds without overlap; NaN with fewer than two.
    """
    width = max(3, round(window / t_r))
    count = courses.shape[1] // width
    if count < 2:
        return np.full(len(courses), np.nan)
    local = courses[:, : count * width].reshape(len(courses), count, width).std(axis=2)
    mean = local.mean(axis=1)
    return np.divide(local.std(axis=1), mean, out=np.full(len(mean), np.nan), where=mean > 0)
