"""Sliding-window connectivity between networks, and phase synchrony."""

from __future__ import annotations

import numpy as np
from scipy.fft import dct, idct
from scipy.signal import hilbert

from fmrilm.descriptors.connectivity import standardise
from fmrilm.descriptors.measures.spectra import detrend

BAND = (0.01, 0.1)  # Hz, of the phases


def network_signals(series: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the mean standardised series of each network, shape (n_networks, n_timepoints).

    Rows of networks without a region are NaN.

    Parameters
    ----------
    series : ndarray, shape (n_usable, n_timepoints)
    members : ndarray, shape (n_networks, n_usable)
    """
    count = members.sum(1)
    total = members @ standardise(series) * np.sqrt(series.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / np.where(count > 0, count, np.nan)[:, None]


def high_pass(signals: np.ndarray, t_r: float, cutoff: float) -> np.ndarray:
    """Return the rows without the cosines below ``cutoff`` Hz, their mean included.

    What is slower than a window only shows as a drift inside it, and makes the correlations of
    windows fluctuate (Leonardi & Van De Ville 2015, NeuroImage 104, 430).
    """
    n = signals.shape[1]
    coefficients = dct(signals, norm="ortho", axis=1)
    coefficients[:, np.arange(n) / (2 * n * t_r) < cutoff] = 0
    return idct(coefficients, norm="ortho", axis=1)


def windowed_connectivity(
    signals: np.ndarray, width: int, step: int, kept: np.ndarray | None = None
) -> np.ndarray:
    """The correlations between all pairs of rows in each window, shape (n_windows, n_pairs).

    Parameters
    ----------
    signals : ndarray, shape (n, n_timepoints)
    width, step : int
        Of the windows, in time points.
    kept : ndarray of bool, shape (n_timepoints,), optional
        Time points that have a part in the correlations; a window with fewer than half of its own
        is left out.
    """
    weights = np.ones(signals.shape[1]) if kept is None else kept.astype(float)
    weights = np.lib.stride_tricks.sliding_window_view(weights, width)[::step]  # (n_windows, width)
    windows = np.lib.stride_tricks.sliding_window_view(signals, width, axis=1)[:, ::step]
    enough = weights.sum(axis=1) >= width / 2
    weights = weights[enough, None]
    rows = windows.transpose(1, 0, 2)[enough]  # (n_windows, n, width)
    rows = rows - (rows * weights).sum(axis=2, keepdims=True) / weights.sum(axis=2, keepdims=True)
    rows = rows * weights
    length = np.sqrt((rows**2).sum(axis=2, keepdims=True))
    rows = np.divide(rows, length, out=np.full_like(rows, np.nan), where=length > 0)
    first, second = np.triu_indices(len(signals), 1)
    return (rows @ rows.transpose(0, 2, 1))[:, first, second]


def phase_synchrony(signals: np.ndarray, t_r: float) -> np.ndarray:
    """Return the Kuramoto order parameter over time, shape (n_timepoints,).

    The length of the mean phase vector of the rows, band-passed to 0.01-0.1 Hz: 1 when all are in
    phase. Its mean is the synchrony, its SD the metastability (Deco et al. 2017, Sci. Rep. 7,
    3095).
    """
    n = signals.shape[1]
    frequencies = np.fft.rfftfreq(n, t_r)
    spectrum = np.fft.rfft(detrend(signals), axis=1)
    spectrum[:, (frequencies < BAND[0]) | (frequencies > BAND[1])] = 0
    phases = np.angle(hilbert(np.fft.irfft(spectrum, n, axis=1), axis=1))
    return np.abs(np.exp(1j * phases).mean(axis=0))
