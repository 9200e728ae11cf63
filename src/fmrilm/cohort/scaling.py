"""From raw series to numbers of order one; what is learned from a cohort is learned on train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.cohort.store import TimeSeriesStore
from fmrilm.errors import InputError
from fmrilm.files import write_arrays
from fmrilm.readers import read_arrays, reading
from fmrilm.registry import suggest

_GLOBAL = ("robust_global", "standard_global", "robust_global_roi", "standard_global_roi")
_BASES = ("none", "robust_roi", "standard_roi", *_GLOBAL)
BY_SITE = "+site"
NORMS = (*_BASES, *(base + BY_SITE for base in _BASES))
_IQR_TO_SD = 1.349  # interquartile range of a standard normal


class Scaler:
    """Centre and scale series.

    Parameters
    ----------
    norm : str
        ``robust_roi`` and ``standard_roi`` use each region's own median and IQR (mean and standard
        deviation) over the scan's time, and need no cohort; ``robust_global`` and
        ``standard_global`` use one centre and one scale for all, over the training scans' time
        means, as the released checkpoints of the original do; ``robust_global_roi`` and
        ``standard_global_roi`` the same for every region; ``none`` changes nothing.
        With ``+site`` behind it, every site's series are then divided by the site's typical
        fluctuation in the training scans.

    Attributes
    ----------
    center_, scale_ : float, or list of float
        Of the global norms, after :meth:`fit`; of those by region one per region.
    site_scale_ : dict of str to float
        Root mean variance over time of the training scans of every site.
    fitted_on_ : list of str
        Subjects whose scans were used, empty if none were needed.
    """

    def __init__(self, norm: str = "robust_roi") -> None:
        if norm not in NORMS:
            raise InputError(
                f"unknown norm {norm!r}{suggest(norm, list(NORMS))}; known: {', '.join(NORMS)}"
            )
        self.norm = norm
        self.base = norm.removesuffix(BY_SITE)
        self.by_site = norm.endswith(BY_SITE)
        self.center_: float | list[float] = 0.0
        self.scale_: float | list[float] = 1.0
        self.site_scale_: dict[str, float] = {}
        self.fitted_on_: list[str] = []
        self.is_fitted = not (self.is_global or self.by_site)

    @property
    def is_global(self) -> bool:
        """Whether centre and scale are learned from a cohort."""
        return self.base in _GLOBAL

    def fit(
        self, store: TimeSeriesStore, indices: np.ndarray, sites: Sequence[str] | None = None
    ) -> Scaler:
        """Learn from the scans ``indices`` of a store what the norm needs.

        Parameters
        ----------
        store : TimeSeriesStore
        indices : ndarray of int
            Training scans.
        sites : sequence of str, optional
            Site of every scan of the store; needed by the ``+site`` norms.

        Raises
        ------
        InputError
            If the scans do not vary, or sites are needed and not given.
        """
        if self.is_fitted:
            return self
        if self.is_global:
            center, scale = learned_global(self.base, store, indices)
            if not (scale > 0).all():
                raise InputError(
                    f"{self.norm}: the training scans do not vary, nothing to scale by"
                )
            self.center_, self.scale_ = center.tolist(), scale.tolist()
        if self.by_site:
            if sites is None:
                raise InputError(f"norm {self.norm} needs the column site in participants.tsv")
            self._fit_sites(store, indices, sites)
        self.fitted_on_ = sorted({store.subjects[int(index)] for index in indices})
        self.is_fitted = True
        return self

    def _fit_sites(self, store: TimeSeriesStore, indices: np.ndarray, sites: Sequence[str]) -> None:
        variances: dict[str, list[float]] = {}
        for index in indices:
            series, usable = self._scale(*store.read(int(index)))
            variances.setdefault(str(sites[int(index)]), []).append(
                float(series[usable].var(axis=1).mean())
            )
        self.site_scale_ = {site: float(np.sqrt(np.mean(v))) for site, v in variances.items()}

    def transform(
        self, series: np.ndarray, roi_mask: np.ndarray, site: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the scaled series and the mask, without regions that cannot be scaled.

        Parameters
        ----------
        series : ndarray, shape (n_rois, n_timepoints)
        roi_mask : ndarray of bool, shape (n_rois,)
        site : str, optional
            Where the scan was made; needed by the ``+site`` norms.

        Raises
        ------
        InputError
            If no training scan is from the site.
        """
        if not self.is_fitted:
            raise RuntimeError(f"norm {self.norm!r} must be fitted on the training scans first")
        scaled, usable = self._scale(series, roi_mask)
        if not self.by_site:
            return scaled, usable
        if str(site) not in self.site_scale_:
            raise InputError(
                f"norm {self.norm}: no training scan is from site {site}; use {self.base}, or "
                "spread the sites over the splits"
            )
        return (scaled / np.float32(self.site_scale_[str(site)])), usable

    def _scale(self, series: np.ndarray, roi_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.base == "none":
            return series, roi_mask
        if self.base == "robust_roi":
            low, center, high = _quartiles(series)
            scale = (high - low) / _IQR_TO_SD
        elif self.base == "standard_roi":
            center, scale = series.mean(1, keepdims=True), series.std(1, keepdims=True)
        else:
            center = np.broadcast_to(np.asarray(self.center_), len(series))[:, None]
            scale = np.broadcast_to(np.asarray(self.scale_), len(series))[:, None]
        usable = roi_mask & (scale[:, 0] > 0)
        scaled = (series - center) / np.where(scale > 0, scale, 1)
        return np.where(usable[:, None], scaled, 0).astype(np.float32), usable

    def to_dict(self) -> dict[str, Any]:
        """Return what is needed to scale other scans alike, for a checkpoint (plain JSON)."""
        return {
            "norm": self.norm,
            "center": self.center_,
            "scale": self.scale_,
            "site_scale": dict(self.site_scale_),
            "fitted_on": list(self.fitted_on_),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Scaler:
        """Return the fitted scaler that :meth:`to_dict` describes."""
        scaler = cls(str(values["norm"]))
        scaler.center_, scaler.scale_ = _numbers(values["center"]), _numbers(values["scale"])
        scaler.site_scale_ = dict(values.get("site_scale", {}))
        scaler.fitted_on_ = list(values.get("fitted_on", []))
        scaler.is_fitted = True
        return scaler

    def save(self, path: str | Path) -> None:
        """Write ``normalization_params.npz``."""
        arrays = {
            "norm": self.norm,
            "center": self.center_,
            "scale": self.scale_,
            "sites": np.array(list(self.site_scale_), dtype=str),
            "site_scales": np.array(list(self.site_scale_.values()), dtype=float),
            "fitted_on": np.array(self.fitted_on_, dtype=str),
        }
        write_arrays(Path(path), arrays)

    @classmethod
    def load(cls, path: str | Path) -> Scaler:
        """Read what :meth:`save` wrote; ``norm``, ``center`` and ``scale`` are enough."""
        remedy = "delete it, it is made again from the training scans"
        file = read_arrays(path, ("norm", "center", "scale"), remedy)
        with reading(path, remedy):
            values: dict[str, Any] = {key: file[key] for key in ("norm", "center", "scale")}
            if "sites" in file:
                pairs = zip(file["sites"].tolist(), file["site_scales"].tolist(), strict=True)
                values["site_scale"] = dict(pairs)
            if "fitted_on" in file:
                values["fitted_on"] = file["fitted_on"].tolist()
            scaler = cls.from_dict(values)
            center, scale = np.asarray(scaler.center_), np.asarray(scaler.scale_)
            if not (np.isfinite(center).all() and np.isfinite(scale).all() and (scale >= 0).all()):
                raise InputError(f"{path} holds centres or scales that are no numbers: {remedy}")
        return scaler


def learned_global(
    norm: str, store: TimeSeriesStore, indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and scale of the time means of some scans, of all regions or of each."""
    total = []
    for index in indices:
        series, roi_mask = store.read(int(index))
        total.append(np.where(roi_mask, series.mean(axis=1, dtype=float), np.nan))
    means = np.stack(total)
    axis = 0 if norm.endswith("_roi") else None
    if norm.startswith("robust"):
        low, center, high = np.nanpercentile(means, [25, 50, 75], axis=axis)
        return np.asarray(center), np.asarray(high - low)
    return np.asarray(np.nanmean(means, axis=axis)), np.asarray(np.nanstd(means, axis=axis))


def _numbers(value: Any) -> float | list[float]:
    """Return a number, or the numbers of a list or array, as plain floats."""
    plain: float | list[float] = np.asarray(value, dtype=float).tolist()
    return plain


def _quartiles(series: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the quartiles over time, shape (n_rois, 1) each; twice as fast as np.percentile."""
    ordered = np.sort(series, axis=1)
    found = []
    for share in (0.25, 0.5, 0.75):
        place = share * (series.shape[1] - 1)
        left = int(place)
        right = min(left + 1, series.shape[1] - 1)
        part = np.asarray(place - left, dtype=series.dtype)
        step = ordered[:, right : right + 1] - ordered[:, left : left + 1]
        found.append(ordered[:, left : left + 1] + part * step)
    return found[0], found[1], found[2]
