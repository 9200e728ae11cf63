"""Nuisance regression, filtering and censoring: what is taken out of a series before resampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.errors import InputError
from fmrilm.preparation.denoising.regressors import (
    STRATEGIES,
    choose_regressors,
    select_regressors,
    summarise_regressors,
)
from fmrilm.registry import suggest

_MOST_CENSORED = 0.5  # a scan that loses more volumes is refused
_SPARE = 10  # volumes more than regressors


@dataclass(frozen=True)
class Cleaning:
    """What is removed from the series."""

    strategy: str = "auto"  # a name in STRATEGIES; auto: simple where there are confounds
    detrend: bool = False  # remove a line
    high_pass: float | None = None  # Hz
    low_pass: float | None = None  # Hz
    confounds: Mapping[str, Any] = field(default_factory=dict)  # changes of the strategy

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise InputError(
                f"unknown strategy {self.strategy!r}{suggest(self.strategy, list(STRATEGIES))}; "
                f"one of: {', '.join(STRATEGIES)}"
            )
        if self.high_pass and self.low_pass and self.high_pass >= self.low_pass:
            raise InputError(
                f"high_pass {self.high_pass} Hz is not below low_pass {self.low_pass} Hz"
            )
        if self.strategy == "none" and self.confounds:
            raise InputError("strategy=none regresses nothing: leave confounds.* out, or set auto")
        if self.strategy != "none":
            choose_regressors("simple" if self.strategy == "auto" else self.strategy,
                              self.confounds)  # fmt: skip


@dataclass(frozen=True)
class Nuisance:
    """What is regressed from one scan.

    Attributes
    ----------
    strategy : str
        The one that holds for this scan; ``none`` if nothing is regressed.
    table : DataFrame or None
        Regressors, one row per volume.
    kept : ndarray of bool, shape (n_timepoints,)
        False where a volume is censored.
    """

    strategy: str
    table: pd.DataFrame | None
    kept: np.ndarray

    @property
    def summary(self) -> str:
        """How many regressors of each kind."""
        return "" if self.table is None else summarise_regressors([*map(str, self.table.columns)])

    def after(self, start: int) -> Nuisance:
        """Return the same without the first ``start`` volumes."""
        table = None if self.table is None else self.table.iloc[start:]
        return Nuisance(self.strategy, table, self.kept[start:])


def load_nuisance(
    image: Path,
    confounds: Path | None,
    table: pd.DataFrame | None,
    volumes: int,
    cleaning: Cleaning,
) -> Nuisance:
    """Return what is regressed from a scan and which volumes are censored.

    Parameters
    ----------
    image : Path
    confounds : Path, optional
        fMRIPrep's table; ``strategy=auto`` regresses nothing without it.
    table : DataFrame, optional
        Its content.
    volumes : int
        Of the scan.
    cleaning : Cleaning

    Raises
    ------
    InputError
        If there is no table, or it lacks what the strategy needs.
    """
    strategy, everything = cleaning.strategy, np.ones(volumes, bool)
    if strategy == "auto":
        strategy = "simple" if table is not None or cleaning.confounds else "none"
    if strategy == "none":
        return Nuisance("none", None, everything)
    if confounds is None or table is None:
        raise InputError(
            f"strategy {strategy} needs fMRIPrep's confounds (*_desc-confounds_timeseries.tsv) "
            f"beside {image}: strategy=none regresses nothing"
        )
    wanted = choose_regressors(strategy, cleaning.confounds)
    regressors, kept = select_regressors(image, confounds, table, wanted)
    return Nuisance(strategy, regressors if len(regressors.columns) else None, kept)


def clean_series(
    series: np.ndarray,
    t_r: float,
    cleaning: Cleaning,
    confounds: np.ndarray | None = None,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """Return the cleaned series, of the same shape and with each region's mean kept.

    Censored volumes are left out of the regression and filled by linear interpolation, so that the
    sampling stays regular for the resampling that follows; who reads them is told to mask them.

    Parameters
    ----------
    series : ndarray, shape (n_rois, n_timepoints)
        Absent regions are NaN throughout and stay so.
    t_r : float
        Seconds.
    cleaning : Cleaning
    confounds : ndarray, shape (n_timepoints, n_confounds), optional
    kept : ndarray of int, optional
        Volumes that are not censored.

    Raises
    ------
    InputError
        If the confounds have another length or leave nothing, a filter does not fit the TR, or
        more than half of the volumes are censored.
    """
    count = series.shape[1]
    is_censored = kept is not None and len(kept) < count
    is_filtered = bool(cleaning.high_pass or cleaning.low_pass)
    if not (is_censored or is_filtered or cleaning.detrend or confounds is not None):
        return series
    from nilearn.signal import clean

    if confounds is not None and len(confounds) != count:
        raise InputError(f"the confounds have {len(confounds)} rows, the scan {count} volumes")
    nyquist = 0.5 / t_r
    if cleaning.low_pass and cleaning.low_pass >= nyquist:
        raise InputError(
            f"low_pass {cleaning.low_pass} Hz is not below {nyquist:.3g} Hz (TR {t_r})"
        )
    left = count if kept is None else len(kept)
    if 1 - left / count > _MOST_CENSORED:
        raise InputError(f"{1 - left / count:.0%} of the volumes are censored: leave the scan out")
    if confounds is not None and confounds.shape[1] + _SPARE > left:
        raise InputError(
            f"{confounds.shape[1]} regressors leave nothing of {left} volumes: regress less, e.g. "
            "confounds.motion=basic or confounds.n_compcor=5"
        )
    present = np.isfinite(series[:, 0])
    values = series[present].T.astype(np.float64)
    cleaned = clean(
        values,
        detrend=cleaning.detrend,
        standardize=None,
        confounds=confounds,
        sample_mask=kept,
        high_pass=cleaning.high_pass,
        low_pass=cleaning.low_pass,
        filter="butterworth" if is_filtered else False,
        t_r=t_r,
    )
    cleaned = cleaned - cleaned.mean(0) + values[slice(None) if kept is None else kept].mean(0)
    if kept is not None and is_censored:
        cleaned = fill_gaps(cleaned.T, kept, count).T
    result = np.full_like(series, np.nan)
    result[present] = cleaned.T
    return result


def fill_gaps(series: np.ndarray, kept: np.ndarray, count: int) -> np.ndarray:
    """Return series (n_rois, len(kept)) at all ``count`` volumes, linear between those measured.

    Parameters
    ----------
    series : ndarray, shape (n_rois, len(kept))
    kept : ndarray of int
        Where its columns lie.
    count : int
        Volumes of the scan.
    """
    full = np.arange(count)
    return np.stack([np.interp(full, kept, row) for row in series]).astype(series.dtype)
