"""Which regions of a scan have a signal, and which scans have enough to learn from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from fmrilm.errors import InputError


def usable_regions(series: np.ndarray) -> np.ndarray:
    """Return which rows are finite throughout and not constant, shape (n_rois,)."""
    finite = np.isfinite(series).all(axis=1)
    return finite & (np.ptp(np.where(finite[:, None], series, 0), axis=1) > 0)


def check_regions(series: np.ndarray, n_rois: int) -> np.ndarray:
    """Return the series as an array.

    Raises
    ------
    InputError
        If it is not (n_rois, n_timepoints).
    """
    series = np.asanyarray(series)
    if series.ndim != 2 or len(series) != n_rois:
        raise InputError(f"a series of shape {series.shape} does not fit {n_rois} regions")
    return series


def mask_censored(series: np.ndarray, censored: np.ndarray) -> np.ndarray:
    """A series (R, T) whose censored time points (T,) are masked, if there are any."""
    if not censored.any():
        return series
    return np.ma.masked_array(series, np.broadcast_to(censored, series.shape))


def split_censored(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The series as a plain array, and which time points are not masked, (n_timepoints,)."""
    if not isinstance(series, np.ma.MaskedArray):
        return series, np.ones(series.shape[1], bool)
    return series.data, np.logical_not(np.ma.getmaskarray(series).all(axis=0))


def training_scans(
    scans: Iterable[np.ndarray], n_rois: int, min_rois: int, min_timepoints: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (float64 series, usable regions, kept time points) of the scans with enough data."""
    for scan in scans:
        series, kept = split_censored(check_regions(scan, n_rois))
        series = series.astype(np.float64, copy=False)
        usable = usable_regions(series)
        if kept.sum() >= min_timepoints and usable.sum() >= min_rois:
            yield series, usable, kept
