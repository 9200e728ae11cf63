"""From raw series to numbers of order one; what is learned from a cohort is learned on train."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fmrilm.data.store import TimeSeriesStore
from fmrilm.errors import InputError
from fmrilm.registry import suggest

NORMS = ("none", "robust_roi", "standard_roi", "robust_global", "standard_global")
_IQR_TO_SD = 1.349  # interquartile range of a standard normal


class Scaler:
    """Centre and scale series.

    Parameters
    ----------
    norm : str
        ``robust_roi`` and ``standard_roi`` use each region's own median and IQR (mean and standard
        deviation) over the scan's time, and need no cohort; ``robust_global`` and
        ``standard_global`` use one centre and one scale for all, over the training scans' time
        means, as the released checkpoints of the original do; ``none`` changes nothing.

    Attributes
    ----------
    center_, scale_ : float
        Of the global norms, after :meth:`fit`.
    """

    def __init__(self, norm: str = "robust_roi") -> None:
        if norm not in NORMS:
            raise InputError(
                f"unknown norm {norm!r}{suggest(norm, list(NORMS))}; known: {', '.join(NORMS)}"
            )
        self.norm = norm
        self.center_ = 0.0
        self.scale_ = 1.0
        self.is_fitted = not norm.endswith("_global")

    def fit(self, store: TimeSeriesStore, indices: np.ndarray) -> Scaler:
        """Learn the centre and scale of the global norms from the scans ``indices`` of a store."""
        if self.is_fitted:
            return self
        means = []
        for index in indices:
            series, roi_mask = store.read(int(index))
            means.append(series[roi_mask].mean(axis=1))
        values = np.concatenate(means)
        if self.norm == "robust_global":
            low, middle, high = np.percentile(values, [25, 50, 75])
            self.center_, self.scale_ = float(middle), float(high - low)
        else:
            self.center_, self.scale_ = float(values.mean()), float(values.std())
        if not self.scale_ > 0:
            raise InputError(f"{self.norm}: the training scans do not vary, nothing to scale by")
        self.is_fitted = True
        return self

    def transform(self, series: np.ndarray, roi_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the scaled series and the mask, without regions that cannot be scaled.

        Parameters
        ----------
        series : ndarray, shape (n_rois, n_timepoints)
        roi_mask : ndarray of bool, shape (n_rois,)
        """
        if not self.is_fitted:
            raise RuntimeError(f"norm {self.norm!r} must be fitted on the training scans first")
        if self.norm == "none":
            return series, roi_mask
        if self.norm == "robust_roi":
            low, center, high = np.percentile(series, [25, 50, 75], axis=1, keepdims=True)
            scale = (high - low) / _IQR_TO_SD
        elif self.norm == "standard_roi":
            center, scale = series.mean(1, keepdims=True), series.std(1, keepdims=True)
        else:
            center = np.full((len(series), 1), self.center_)
            scale = np.full((len(series), 1), self.scale_)
        usable = roi_mask & (scale[:, 0] > 0)
        scaled = (series - center) / np.where(scale > 0, scale, 1)
        return np.where(usable[:, None], scaled, 0).astype(np.float32), usable

    def save(self, path: str | Path) -> None:
        """Write ``normalization_params.npz``."""
        np.savez(path, norm=self.norm, center=self.center_, scale=self.scale_)

    @classmethod
    def load(cls, path: str | Path) -> Scaler:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as values:
            scaler = cls(str(values["norm"]))
            scaler.center_, scaler.scale_ = float(values["center"]), float(values["scale"])
        scaler.is_fitted = True
        return scaler
