"""Nuisance regression, filtering and motion: what is taken out of a series before resampling."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fmrilm.errors import InputError
from fmrilm.registry import suggest

STRATEGIES = ("none", "simple", "scrubbing", "compcor", "ica_aroma")
_MOST_CENSORED = 0.5  # a scan that loses more volumes to scrubbing is refused


@dataclass(frozen=True)
class Cleaning:
    """What is removed; the default removes nothing, as the original did."""

    strategy: str = "none"  # confounds of fMRIPrep: none | simple | scrubbing | compcor | ica_aroma
    detrend: bool = False  # remove a line
    high_pass: float | None = None  # Hz
    low_pass: float | None = None  # Hz

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

    @property
    def does_anything(self) -> bool:
        """Whether a series is changed at all."""
        return self.strategy != "none" or self.detrend or bool(self.high_pass or self.low_pass)


def load_confounds(image: Path, strategy: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the confounds of fMRIPrep for a strategy and the volumes kept (None: all).

    Returns
    -------
    confounds : ndarray, shape (n_timepoints, n_confounds), or None
    kept : ndarray of int, or None

    Raises
    ------
    InputError
        If the confounds table is not beside the image, or lacks what the strategy needs.
    """
    if strategy == "none":
        return None, None
    from nilearn.interfaces.fmriprep import load_confounds_strategy

    try:
        table, kept = load_confounds_strategy(str(image), denoise_strategy=strategy)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"strategy {strategy} needs fMRIPrep's confounds beside {image}: {reason}"
        ) from None
    return table.to_numpy(float), kept


def clean_series(
    series: np.ndarray,
    t_r: float,
    cleaning: Cleaning,
    confounds: np.ndarray | None = None,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """Return the cleaned series, of the same shape and with each region's mean kept.

    Censored volumes are left out of the regression and filled by linear interpolation, so that the
    sampling stays regular for the resampling that follows.

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
        If the confounds have another length, a filter does not fit the TR, or more than half of
        the volumes are censored.
    """
    if not cleaning.does_anything:
        return series
    from nilearn.signal import clean

    count = series.shape[1]
    if confounds is not None and len(confounds) != count:
        raise InputError(f"the confounds have {len(confounds)} rows, the scan {count} volumes")
    nyquist = 0.5 / t_r
    if cleaning.low_pass and cleaning.low_pass >= nyquist:
        raise InputError(
            f"low_pass {cleaning.low_pass} Hz is not below {nyquist:.3g} Hz (TR {t_r})"
        )
    share = 0.0 if kept is None else 1 - len(kept) / count
    if share > _MOST_CENSORED:
        raise InputError(f"scrubbing would censor {share:.0%} of the volumes: leave the scan out")
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
        filter="butterworth" if cleaning.high_pass or cleaning.low_pass else False,
        t_r=t_r,
    )
    cleaned = cleaned - cleaned.mean(0) + values.mean(0)
    if kept is not None and len(kept) < count:
        full = np.arange(count)
        cleaned = np.stack([np.interp(full, kept, column) for column in cleaned.T], axis=1)
    result = np.full_like(series, np.nan)
    result[present] = cleaned.T
    return result


def read_motion(confounds: Path | None, n_timepoints: int) -> np.ndarray | None:
    """Return framewise displacement in mm per volume from fMRIPrep's table, None if unknown.

    Raises
    ------
    InputError
        If it has another number of volumes than the scan.
    """
    if confounds is None or not confounds.is_file():
        return None
    import pandas as pd

    table = pd.read_csv(confounds, sep="\t", na_values=["n/a"])
    if "framewise_displacement" not in table:
        return None
    if len(table) != n_timepoints:
        raise InputError(f"{confounds} has {len(table)} rows, the scan {n_timepoints} volumes")
    return table["framewise_displacement"].fillna(0).to_numpy(float)
