"""What a plain baseline reads from a scan: connectivity, region means, the values themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fmrilm.cohort.reader import ScanReader
from fmrilm.evaluation.baselines.storage import allocate
from fmrilm.evaluation.baselines.tangent import shrunk_covariance

if TYPE_CHECKING:
    from fmrilm.cohort.cohort import Cohort

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


def values(series: np.ndarray, mask: np.ndarray, length: int) -> np.ndarray:
    """Return the whole scan in a row, shape (R * length,); nan where there is no real sample."""
    return _fill(series, mask, length, np.nan).ravel()


def series(scan: np.ndarray, mask: np.ndarray, length: int) -> np.ndarray:
    """Return the scan itself, shape (R, length); zero where there is no real sample."""
    return _fill(scan, mask, length, 0.0)


def _fill(scan: np.ndarray, mask: np.ndarray, length: int, filler: float) -> np.ndarray:
    kept = np.where(mask, scan, filler).astype(np.float32)
    return np.pad(kept, ((0, 0), (0, length - scan.shape[1])), constant_values=filler)


_IN_TIME = ("values", "series")  # given censored time points and a mask (R, T), the others neither
Feature = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
FEATURES: dict[str, Feature] = {
    "fc": lambda series, roi_mask, length: connectivity(series, roi_mask),
    "covariance": lambda series, roi_mask, length: shrunk_covariance(series, roi_mask),
    "region_means": lambda series, roi_mask, length: region_means(series, roi_mask),
    "values": values,
    "series": series,
}


def square(edges: np.ndarray) -> np.ndarray:
    """Return connectivity matrices (n, R, R) from upper triangles (n, R (R - 1) / 2); nan is 0."""
    n_rois = round((1 + np.sqrt(1 + 8 * edges.shape[1])) / 2)
    rows, columns = np.triu_indices(n_rois, k=1)
    full = np.zeros((len(edges), n_rois, n_rois), dtype=np.float32)
    full[:, rows, columns] = full[:, columns, rows] = np.nan_to_num(edges)
    return full


def extract(
    cohort: Cohort, rows: np.ndarray, length: int, chosen: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return features of the scans ``rows`` by name, the first axis of each being the scans.

    Parameters
    ----------
    cohort : Cohort
    rows : ndarray of int, shape (n,)
    length : int
        Time points used, counted from the start: the same ones the model reads.
    chosen : sequence of str
        Names in :data:`FEATURES`.
    """
    found: dict[str, np.ndarray] = {}
    reader = ScanReader(cohort, length, "pad")  # a shorter one is described by what it has
    for index, row in enumerate(rows):
        scan, roi_mask = reader.clip(row)
        kept = reader.kept(row)
        seen = np.ones(scan.shape[1], bool) if kept is None else kept[: scan.shape[1]]
        for name in chosen:
            parts = (scan, roi_mask[:, None] & seen)
            if name not in _IN_TIME:
                parts = (scan[:, seen], roi_mask)
            feature = FEATURES[name](*parts, length)
            if name not in found:
                found[name] = allocate((len(rows), *feature.shape), feature.dtype)
            found[name][index] = feature
    return found
