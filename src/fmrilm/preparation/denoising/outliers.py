"""Censored volumes of series that others have cleaned: XCP-D's ``linc`` and ``abcd`` modes.

XCP-D writes ``*_outliers.tsv``, one row per volume. In ``linc`` mode the censored volumes are left
out of the series, whose rows are then no neighbours in time; in ``abcd`` mode they are filled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fmrilm.errors import InputError
from fmrilm.preparation.denoising.denoise import fill_gaps
from fmrilm.preparation.sources.read import ScanFile
from fmrilm.readers import read_table, reading

_COLUMN = "framewise_displacement"  # not exact_*, which thins scans to one length


def place_in_time(
    series: np.ndarray, scan: ScanFile, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a series at all volumes of its scan, and which of them were measured and kept.

    Volumes that are left out (``linc``), or missing in every region that is present (rows of
    ``n/a``), are filled by linear interpolation.

    Parameters
    ----------
    series : ndarray, shape (n_rois, n_timepoints)
        Absent regions are NaN throughout.
    scan : ScanFile
        Names the table of outliers, if there is one.
    notes : list of str
        What a reader should know is added.

    Returns
    -------
    series : ndarray, shape (n_rois, n_volumes)
    kept : ndarray of bool, shape (n_volumes,)

    Raises
    ------
    InputError
        If the outliers belong to another scan, or nothing is left.
    """
    present = ~np.isnan(series).all(axis=1)
    missing = np.isnan(series[present]).all(axis=0)
    count = series.shape[1]
    kept = np.ones(count, bool)
    if scan.outliers is not None:
        kept = ~_read_outliers(scan.outliers)
    if len(kept) == count:
        where = np.arange(count)
        kept = kept & ~missing
    elif int(kept.sum()) == count:
        where = np.flatnonzero(kept)
        kept[where[missing]] = False
        notes.append(f"{len(kept) - count} censored volumes are gaps in the series, filled")
    else:
        raise InputError(
            f"{scan.outliers} has {len(kept)} rows, {int(kept.sum())} of them kept; {scan.path} "
            f"has {count}: they belong to different scans"
        )
    if len(where) == len(kept) and not missing.any():
        return series, kept
    if missing.sum() > count - 2:
        raise InputError(f"{scan.path}: nothing was measured in its regions")
    if missing.any():
        notes.append(f"{int(missing.sum())} rows without values, filled")
    whole = np.full((len(series), len(kept)), np.nan, series.dtype)
    rows = series[present][:, ~missing]
    whole[present] = fill_gaps(rows, where[~missing], len(kept))
    return whole, kept


def _read_outliers(path: Path) -> np.ndarray:
    table = read_table(path, na_values=["n/a"])
    if _COLUMN not in table:
        raise InputError(
            f"{path} has no column {_COLUMN}, only {', '.join(map(str, table.columns))}"
        )
    with reading(path):
        return table[_COLUMN].fillna(0).to_numpy(float) > 0
