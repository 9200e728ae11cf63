"""Non-steady-state volumes at the start of a scan, brighter than all others in every region."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fmrilm.errors import InputError

_FAR = 3.5  # robust z above which a volume is an outlier (Iglewicz and Hoaglin, as fMRIPrep)
_FIRST = 50  # volumes that are compared with each other, as in fMRIPrep
_MOST = 0.9  # share of the regions that must be brighter: neurons never do that
_MAD_TO_SD = 1.4826
COLUMNS = "non_steady_state_outlier"  # of fMRIPrep's confounds table, one per volume


def parse_dummy_scans(value: str) -> int | None:
    """Return the number that ``dummy_scans`` sets, None for ``auto``.

    Raises
    ------
    InputError
        If it is neither.
    """
    if value == "auto":
        return None
    if not value.isdecimal():
        raise InputError(f"dummy_scans is {value!r}: use auto or a number of volumes")
    return int(value)


def tabled_dummy_scans(confounds: pd.DataFrame) -> int:
    """Return how many volumes at the start fMRIPrep marked, 0 if its table has no such column."""
    columns = [name for name in confounds if str(name).startswith(COLUMNS)]
    marked = np.flatnonzero((confounds[columns].to_numpy(float) > 0).any(axis=1))
    return int(marked.max()) + 1 if len(marked) else 0


def detect_dummy_scans(series: np.ndarray) -> int:
    """Return how many volumes at the start are not in the steady state, judged by their signal.

    A volume counts if its mean over regions, and nine in ten regions, lie more than 3.5 robust
    standard deviations above the first 50 volumes. Of a standardised or filtered scan they
    are seen as well; of one without a steady state (ten volumes) nothing is said.

    Parameters
    ----------
    series : ndarray, shape (n_rois, n_timepoints)
        Absent regions are NaN or zero.
    """
    first = series[:, :_FIRST]
    if first.shape[1] < 10:
        return 0
    usable = np.isfinite(first).all(axis=1)
    usable[usable] = np.ptp(first[usable], axis=1) > 0
    if not usable.any():
        return 0
    rows = first[usable].astype(np.float64)
    bright = (_robust_z(rows) > _FAR).mean(axis=0) >= _MOST
    bright &= _robust_z(rows.mean(axis=0, keepdims=True))[0] > _FAR
    count = int(np.argmin(bright))  # the first volume that is as the others are
    return count if not bright.all() else 0


def _robust_z(rows: np.ndarray) -> np.ndarray:
    middle = np.median(rows, axis=1, keepdims=True)
    spread = _MAD_TO_SD * np.median(np.abs(rows - middle), axis=1, keepdims=True)
    return np.divide(rows - middle, spread, out=np.zeros_like(rows), where=spread > 0)


def choose_dummy_scans(
    setting: str, confounds: pd.DataFrame | None, series: np.ndarray
) -> tuple[int, str]:
    """Return how many volumes are dropped at the start of a scan, and the note that says so.

    Parameters
    ----------
    setting : str
        ``auto``: those that fMRIPrep marked, else those seen in the signal; or a number.
    confounds : DataFrame, optional
        fMRIPrep's table.
    series : ndarray, shape (n_rois, n_timepoints)

    Raises
    ------
    InputError
        If nothing would be left.
    """
    count, source = parse_dummy_scans(setting), "as set"
    if count is None:
        count, source = 0, ""
        if confounds is not None:
            count, source = tabled_dummy_scans(confounds), "marked by fMRIPrep"
        if not count:
            count, source = detect_dummy_scans(series), "seen in the signal"
    if series.shape[1] - count < 2:
        raise InputError(f"{count} dummy scans leave nothing of {series.shape[1]} volumes")
    return count, f"{count} dummy scans dropped ({source})" if count else ""
