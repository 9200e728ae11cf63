"""What a plain baseline reads from a scan: connectivity, region means, the values themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fmrilm.data.cohort import Cohort

SHORT = 32  # time points below which connectivity is not estimated
_CLIP = 0.999999  # keeps arctanh finite where two regions are copies of each other


def connectivity(series: np.ndarray, roi_mask: np.ndarray) -> np.ndarray:
    """Return the upper triangle of Fisher z-transformed correlations, shape (R (R - 1) / 2,).

    Parameters
    ----------
    series : ndarray, shape (R, T)
    roi_mask : ndarray of bool, shape (R,)
        Pairs with an unusable region are nan.
    """
    centred = series - series.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1)
    usable = roi_mask & (norms > 0)
    unit = np.where(usable[:, None], centred / np.where(norms > 0, norms, 1)[:, None], np.nan)
    rows, columns = np.triu_indices(len(series), k=1)
    return np.arctanh(np.clip(unit @ unit.T, -_CLIP, _CLIP))[rows, columns].astype(np.float32)


def region_means(series: np.ndarray, roi_mask: np.ndarray) -> np.ndarray:
    """Return the mean of every region over time, shape (R,); nan where unusable."""
    return np.where(roi_mask, series.mean(axis=1), np.nan).astype(np.float32)


def values(series: np.ndarray, roi_mask: np.ndarray) -> np.ndarray:
    """Return the whole scan in a row, shape (R * T,); nan where a region is unusable."""
    return np.where(roi_mask[:, None], series, np.nan).astype(np.float32).ravel()


Feature = Callable[[np.ndarray, np.ndarray], np.ndarray]


def features_for(n_timepoints: int) -> dict[str, Feature]:
    """Return the features that make sense at a scan length, by name."""
    if n_timepoints < SHORT:
        return {"values": values, "region_means": region_means}
    return {"fc": connectivity, "region_means": region_means}


def extract(
    cohort: Cohort, rows: np.ndarray, length: int, chosen: dict[str, Feature]
) -> dict[str, np.ndarray]:
    """Return every feature of the scans ``rows``, shape (n, n_features) each.

    Parameters
    ----------
    cohort : Cohort
    rows : ndarray of int, shape (n,)
    length : int
        Time points used, counted from the start: the same ones the model reads.
    chosen : dict of name to function
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
    for row in rows:
        series, roi_mask = cohort.read(int(row))
        for name, feature in chosen.items():
            found[name].append(feature(series[:, :length], roi_mask))
    return {name: np.stack(parts) for name, parts in found.items()}
