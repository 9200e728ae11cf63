"""How unlike the training scans a scan is: spectrum, connectivity, order of regions, motion.

A model answers whatever it is given. The meter compares what any scan has (no labels) with the
training scans, group by group, by Mahalanobis distance (Ledoit-Wolf covariance); a group is beyond
its limit where fewer than one in two hundred training scans, each left out of the fit, lie as far.

Tensor letters: n scans, R regions, T time points, F features of a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.cohort.cohort import Cohort
from fmrilm.descriptors.connectivity import correlation
from fmrilm.descriptors.measures.scans import mask_censored, usable_regions
from fmrilm.files import write_arrays
from fmrilm.readers import read_arrays

BANDS = (0.01, 0.03, 0.05, 0.08, 0.12, 0.18, 0.25)  # Hz, edges of the bands of the spectrum
SHARE = 0.005  # of the training scans that may lie beyond the limit of a group
FEWEST = 20  # training scans that a meter can be fitted on
MOST = 500  # training scans that it is fitted on
GROUPS = {
    "spectrum": "the spectrum (repetition time, filters)",
    "connectivity": "the level of connectivity",
    "order": "which regions go together (atlas, order of the regions)",
    "regions": "absent regions",
    "motion": "jumps from volume to volume (motion)",
    "displacement": "head displacement",
}
_REMEDY = "train the run again"


@dataclass(frozen=True)
class Drift:
    """How far a scan lies from the training scans.

    Attributes
    ----------
    ratios : dict of str to float
        Of each group, its distance over its limit; above 1 it is unlike the training scans.
    """

    ratios: dict[str, float]

    @property
    def level(self) -> float:
        """The largest ratio; above 1 the scan is unlike the training scans."""
        return max(self.ratios.values(), default=0.0)

    @property
    def is_unlike(self) -> bool:
        """Whether the scan is beyond the limit of a group."""
        return self.level > 1

    @property
    def text(self) -> str:
        """What is unlike, in a sentence."""
        beyond = [GROUPS[name] for name, ratio in self.ratios.items() if ratio > 1]
        if not beyond:
            return f"like the training scans (drift {self.level:.2f} of 1)"
        return f"unlike the training scans in {' and '.join(beyond)}: answers may mean nothing"


class DriftMeter:
    """Learn the distribution of the training scans, compare other scans with it.

    Attributes
    ----------
    t_r_ : float
        Seconds between two time points.
    mean_fc_ : ndarray, shape (R, R)
        Mean correlation of the training scans, NaN for pairs never seen.
    means_, precisions_, limits_ : dict of str to ndarray
        Of every group.
    """

    def fit(
        self, scans: Sequence[np.ndarray], t_r: float, displacement: np.ndarray | None = None
    ) -> DriftMeter:
        """Learn from training scans.

        Parameters
        ----------
        scans : sequence of ndarray, shape (R, T)
            Read twice, so a sequence and not a generator; it may read from disk lazily. Not
            scaled; rows of absent regions hold NaN or are constant.
        t_r : float
            Seconds between two time points.
        displacement : ndarray, shape (n,), optional
            Mean framewise displacement of each, in mm; NaN where unknown.
        """
        self.t_r_ = float(t_r)
        known = displacement if displacement is not None else np.full(len(scans), np.nan)
        shape = (len(scans[0]),) * 2
        total, count = np.zeros(shape), np.zeros(shape)  # over the scans that have the pair
        for series in scans:
            fc = _correlation(series)
            total += np.nan_to_num(fc)
            count += np.isfinite(fc)
        rows = []
        for series, fd in zip(scans, known, strict=True):
            fc = _correlation(series)
            rows.append(_features(series, fc, self.t_r_, _mean(total - fc, count - 1), fd))
        self.mean_fc_ = _mean(total, count)
        self.means_: dict[str, np.ndarray] = {}
        self.precisions_: dict[str, np.ndarray] = {}
        self.limits_: dict[str, np.ndarray] = {}
        for name in GROUPS:
            values = np.array([row[name] for row in rows if np.isfinite(row[name]).all()])
            if len(values) >= FEWEST:
                self._fit_group(name, values)
        return self

    def _fit_group(self, name: str, values: np.ndarray) -> None:
        from scipy.stats import chi2
        from sklearn.covariance import LedoitWolf

        spread = np.maximum(values.std(axis=0), 0.01)  # what never varied is not all-telling
        covariance = LedoitWolf().fit(values / spread).covariance_
        np.fill_diagonal(covariance, np.maximum(covariance.diagonal(), 1))
        precision = np.linalg.inv(covariance) / np.outer(spread, spread)
        gap = values - values.mean(axis=0)
        distances = np.einsum("nf,fg,ng->n", gap, precision, gap)
        # Leaving a scan out moves mean and covariance; for a Gaussian in closed form (Hotelling).
        n = len(values)
        left_out = distances * n * (n - 2) / np.maximum((n - 1) ** 2 - n * distances, 1)
        # The tail is that of a chi-square matched to the bulk: the largest of n is too noisy.
        degrees = values.shape[1]
        scale = max(1.0, np.median(left_out) / chi2.median(degrees))
        limit = max(scale * chi2.isf(SHARE, degrees), float(np.quantile(left_out, 1 - SHARE)))
        self.means_[name] = values.mean(axis=0)
        self.precisions_[name] = precision
        self.limits_[name] = np.array(np.sqrt(limit))

    def compare(self, series: np.ndarray, displacement: float = np.nan) -> Drift:
        """How unlike the training scans one scan is.

        Parameters
        ----------
        series : ndarray, shape (R, T)
            Not scaled; rows of absent regions hold NaN or are constant.
        displacement : float
            Mean framewise displacement in mm; NaN where unknown.
        """
        found = _features(series, _correlation(series), self.t_r_, self.mean_fc_, displacement)
        ratios = {}
        for name, mean in self.means_.items():
            gap = found[name] - mean
            if np.isfinite(gap).all():
                distance = np.sqrt(gap @ self.precisions_[name] @ gap)
                ratios[name] = float(distance / self.limits_[name])
            elif name != "displacement":
                ratios[name] = np.inf
        return Drift(ratios)

    def save(self, path: Path) -> None:
        """Write what was learned."""
        arrays: dict[str, np.ndarray] = {"t_r": np.array(self.t_r_), "mean_fc": self.mean_fc_}
        for name in self.means_:
            arrays[f"{name}_mean"] = self.means_[name]
            arrays[f"{name}_precision"] = self.precisions_[name]
            arrays[f"{name}_limit"] = self.limits_[name]
        write_arrays(path, arrays, compressed=True)

    @classmethod
    def load(cls, path: Path) -> DriftMeter:
        """Read what :meth:`save` wrote."""
        arrays: Mapping[str, np.ndarray] = read_arrays(path, ("t_r", "mean_fc"), _REMEDY)
        meter = cls()
        meter.t_r_, meter.mean_fc_ = float(arrays["t_r"]), arrays["mean_fc"]
        names = [name for name in GROUPS if f"{name}_mean" in arrays]
        meter.means_ = {name: arrays[f"{name}_mean"] for name in names}
        meter.precisions_ = {name: arrays[f"{name}_precision"] for name in names}
        meter.limits_ = {name: arrays[f"{name}_limit"] for name in names}
        return meter


def fit_drift(cohorts: Sequence[Cohort]) -> DriftMeter | None:
    """The meter of the training scans of all cohorts, or of an even part of them."""
    chosen = training_rows(cohorts)
    if not chosen:
        return None
    fds = [
        float(cohort.table.iloc[index]["mean_fd"]) if "mean_fd" in cohort.table else np.nan
        for cohort, index in chosen
    ]
    t_r = float(cohorts[0].store.t_r or cohorts[0].info.t_r)
    return DriftMeter().fit(TrainingScans(chosen), t_r, np.array(fds))


def training_rows(cohorts: Sequence[Cohort]) -> list[tuple[Cohort, int]]:
    """Training scans of all cohorts, or an even part of them; none if there are too few."""
    rows = [(cohort, int(index)) for cohort in cohorts for index in cohort.indices("train")]
    chosen = rows[:: max(1, len(rows) // MOST)][:MOST]
    return chosen if len(chosen) >= FEWEST else []


class TrainingScans(Sequence[np.ndarray]):
    """Scans of several cohorts, each read when it is asked for; absent regions are NaN.

    Parameters
    ----------
    rows : sequence of (Cohort, int)
    points : int, optional
        Time points from the start; censored ones are masked. None: all, none masked.
    """

    def __init__(self, rows: Sequence[tuple[Cohort, int]], points: int | None = None) -> None:
        self._rows = rows
        self._points = points

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, item: Any) -> Any:
        cohort, index = self._rows[item]
        series, usable = cohort.store.read(index)
        series = np.where(usable[:, None], series, np.nan)
        if self._points is None:
            return series
        series, censored = series[:, : self._points], cohort.censored(index)[: self._points]
        return mask_censored(series, censored)


def _correlation(series: np.ndarray) -> np.ndarray:
    """Correlations between regions (R, R), NaN for regions without a signal."""
    series = np.asarray(series, dtype=np.float64)
    usable = usable_regions(series)
    whole = np.full((len(series),) * 2, np.nan)
    whole[np.ix_(usable, usable)] = correlation(series[usable])
    return whole


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Means of correlations, NaN for pairs that no scan has."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / np.where(count > 0, count, np.nan)


def _features(
    series: np.ndarray, fc: np.ndarray, t_r: float, mean_fc: np.ndarray, displacement: float
) -> dict[str, np.ndarray]:
    """What is compared of a scan, by group; NaN where it cannot be said."""
    usable = np.isfinite(fc.diagonal())
    nan = np.full(1, np.nan)
    if usable.sum() < 3 or series.shape[1] < 16:
        return {name: nan for name in GROUPS}
    rows = np.asarray(series, dtype=np.float64)[usable]
    rows = (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)
    pairs = np.triu_indices(len(fc), 1)
    own, expected = np.arctanh(np.clip(fc[pairs], -0.999, 0.999)), mean_fc[pairs]
    both = np.isfinite(own) & np.isfinite(expected)
    likeness = np.corrcoef(own[both], expected[both])[0, 1] if both.sum() > 3 else np.nan
    values = own[both]
    jumps = np.sqrt((np.diff(rows, axis=1) ** 2).mean(axis=0))  # (T - 1,), DVARS of scaled rows
    spread = np.median(np.abs(jumps - np.median(jumps))) + 1e-9
    excess = (jumps - np.median(jumps)) / spread
    return {
        "spectrum": _band_power(rows, t_r),
        "connectivity": np.array([values.mean(), np.log(values.std() + 1e-6)]),
        "order": np.array([np.arctanh(np.clip(likeness, -0.999, 0.999))]),
        "regions": np.array([1 - usable.mean()]),
        "motion": np.array([
            np.log1p(np.clip(excess, 0, None).max()),
            np.log1p(np.mean(np.clip(excess, 0, None) ** 2)),
            np.log(jumps.mean()),
        ]),
        "displacement": np.array([np.log(displacement) if displacement > 0 else np.nan]),
    }  # fmt: skip


def _band_power(rows: np.ndarray, t_r: float) -> np.ndarray:
    """Log share of the power in each band that the sampling can tell, mean over regions."""
    frequencies = np.fft.rfftfreq(rows.shape[1], t_r)
    power = (np.abs(np.fft.rfft(rows, axis=1)) ** 2).mean(axis=0)[1:]
    frequencies = frequencies[1:]
    total = power.sum()
    shares = []
    for low, high in pairwise(BANDS):
        inside = (frequencies >= low) & (frequencies < high)
        shares.append(power[inside].sum() / total if inside.any() else 0.0)
    return np.log(np.array(shares) + 1e-4)
