"""From the scanner's sampling to TR 2 s without aliasing, and from any length to the model's."""

from __future__ import annotations

import numpy as np

from fmrilm.errors import InputError
from fmrilm.registry import suggest

RESAMPLING = ("antialias", "linear")
LENGTHS = ("keep", "clip", "random_clip", "windows", "pad")
_TAPS = 16  # half length of the low-pass filter, in periods of the slower sampling


def resample(
    series: np.ndarray, t_r: float, target_t_r: float, method: str = "antialias"
) -> np.ndarray:
    """Return series sampled every ``target_t_r`` seconds.

    Sample ``k`` of the result lies at ``k * target_t_r`` seconds after the first volume, and the
    result ends within the original scan: nothing is extrapolated.

    Parameters
    ----------
    series : ndarray, shape (n_rois, n_timepoints)
        Rows of NaN (absent regions) stay NaN.
    t_r, target_t_r : float
        Seconds between two samples, before and after.
    method : str
        ``antialias``: windowed sinc, which removes what lies above half the new sampling rate when
        going down. ``linear``: linear interpolation without a filter, as the original did; faster
        fluctuations fold back into the band.

    Returns
    -------
    resampled : ndarray of the same type, shape (n_rois, floor(duration / target_t_r) + 1)

    Raises
    ------
    InputError
        If a TR is not positive, or the method is unknown.
    """
    if not (t_r > 0 and target_t_r > 0):
        raise InputError(f"TR must be positive, got {t_r} s and {target_t_r} s")
    if method not in RESAMPLING:
        raise InputError(
            f"unknown resampling {method!r}{suggest(method, list(RESAMPLING))}; "
            f"one of: {', '.join(RESAMPLING)}"
        )
    if abs(t_r - target_t_r) < 1e-6:
        return series
    count = series.shape[1]
    times = np.arange(int((count - 1) * t_r / target_t_r + 1e-9) + 1) * (target_t_r / t_r)
    if method == "linear":
        left = np.minimum(times.astype(int), count - 2)
        share = times - left
        return (series[:, left] * (1 - share) + series[:, left + 1] * share).astype(series.dtype)
    return (series @ _sinc_weights(times, count, min(1.0, t_r / target_t_r))).astype(series.dtype)


def _sinc_weights(times: np.ndarray, count: int, cutoff: float) -> np.ndarray:
    """Return the (count, len(times)) matrix of a Kaiser-windowed sinc.

    ``cutoff`` is the share of the old Nyquist frequency that is kept. At the ends the series is
    mirrored, and each column sums to one, so that a constant stays itself.
    """
    reach = int(np.ceil(_TAPS / cutoff))
    padded = np.arange(-reach, count + reach)
    offset = times[None, :] - padded[:, None]
    # The transition band lies below the cutoff, so that nothing above it comes through.
    edge = 0.93 * cutoff
    inside = np.clip(1 - (offset / reach) ** 2, 0, None)
    weights = edge * np.sinc(edge * offset) * np.i0(8.0 * np.sqrt(inside)) * (inside > 0)
    mirrored = np.zeros((count, len(times)))
    period = max(2 * (count - 1), 1)
    source = np.abs(padded) % period
    np.add.at(mirrored, np.where(source < count, source, period - source), weights)
    return mirrored / mirrored.sum(0)


def resample_censored(censored: np.ndarray, t_r: float, target_t_r: float) -> np.ndarray:
    """Return which samples of the resampled scan stand on a censored volume, shape (n_timepoints,).

    Those less than one sampling period (the longer of the two) from one.

    Parameters
    ----------
    censored : ndarray of bool, shape (n_volumes,)
    t_r, target_t_r : float
        Seconds between two samples, before and after.
    """
    if abs(t_r - target_t_r) < 1e-6:
        return censored
    count = int((len(censored) - 1) * t_r / target_t_r + 1e-9) + 1
    bad = np.flatnonzero(censored) * t_r
    if not len(bad):
        return np.zeros(count, bool)
    away = np.abs(np.arange(count)[:, None] * target_t_r - bad).min(axis=1)
    return away < max(t_r, target_t_r) - 1e-6


def fit_length(
    series: np.ndarray, n_timepoints: int, method: str = "clip", seed: int = 0
) -> list[np.ndarray]:
    """Return the pieces of a scan (n_rois, T) that go into the store, see :func:`choose_cuts`."""
    return [series[:, cut] for cut in choose_cuts(series.shape[1], n_timepoints, method, seed)]


class TooShortError(InputError):
    """A scan has fewer time points than are wanted of it."""


def choose_cuts(length: int, n_timepoints: int, method: str = "clip", seed: int = 0) -> list[slice]:
    """Return where a scan is cut into the pieces that go into the store.

    Parameters
    ----------
    length : int
        Time points of the scan.
    n_timepoints : int
        Wanted length.
    method : str
        ``keep``: as it is; ``clip``: the first ``n_timepoints``; ``random_clip``: a window drawn by
        ``seed``; ``windows``: as many non-overlapping windows as fit; ``pad``: like ``clip``, and a
        shorter scan is kept at its own length (the dataset pads it with zeros, masked).
    seed : int
        Of ``random_clip``.

    Raises
    ------
    InputError
        If the scan is too short, for any method but ``keep`` and ``pad``: it is never stretched.
    """
    if method not in LENGTHS:
        raise InputError(
            f"unknown length {method!r}{suggest(method, list(LENGTHS))}; "
            f"one of: {', '.join(LENGTHS)}"
        )
    if method == "keep":
        return [slice(0, length)]
    if length < n_timepoints and method != "pad":
        raise TooShortError(
            f"the scan has {length} time points after resampling, fewer than {n_timepoints}: "
            "use length=pad to keep it masked, or a smaller n_timepoints"
        )
    if method == "random_clip":
        start = int(np.random.default_rng(seed).integers(length - n_timepoints + 1))
        return [slice(start, start + n_timepoints)]
    if method == "windows":
        starts = range(0, length - n_timepoints + 1, n_timepoints)
        return [slice(start, start + n_timepoints) for start in starts]
    return [slice(0, n_timepoints)]


def pad_time(series: np.ndarray, n_timepoints: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scaled series padded with zeros to ``n_timepoints`` and the mask of real samples.

    Parameters
    ----------
    series : ndarray, shape (n_rois, T), T <= n_timepoints
        Scaled, so that zero is each region's centre.

    Returns
    -------
    padded : ndarray, shape (n_rois, n_timepoints)
    time_mask : ndarray of bool, shape (n_timepoints,)
    """
    missing = n_timepoints - series.shape[1]
    if missing < 0:
        raise ValueError(f"{series.shape[1]} time points do not fit into {n_timepoints}")
    return np.pad(series, ((0, 0), (0, missing))), np.arange(n_timepoints) < series.shape[1]
