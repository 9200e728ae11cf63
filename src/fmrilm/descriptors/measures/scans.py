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
    series = np.asarray(series)
    if series.ndim != 2 or len(series) != n_rois:
        raise InputError(f"a series of shape {series.shape} does not fit {n_rois} regions")
    return series


def training_scans(
    scans: Iterable[np.ndarray], n_rois: int, min_rois: int, min_timepoints: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (series as float64, usable regions) of the scans with enough data, one at a time."""
    for series in scans:
        series = check_regions(series, n_rois).astype(np.float64, copy=False)
        usable = usable_regions(series)
        if series.shape[1] >= min_timepoints and usable.sum() >= min_rois:
            yield series, usable
