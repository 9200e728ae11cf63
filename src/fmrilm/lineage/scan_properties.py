"""What a scan tells besides its fluctuation: absent regions, length, intensity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fmrilm.cohort.store import TimeSeriesStore
from fmrilm.lineage.fingerprints import LONG
from fmrilm.tables.columns import ColumnEncoder, kind_of

_RAW = 5.0  # static level in standard deviations over time, from which units are the scanner's


@dataclass(frozen=True)
class ScanProperties:
    """Properties of all scans of a store.

    Attributes
    ----------
    absent : ndarray of bool, shape (n_scans, n_rois)
        Regions that are NaN or constant.
    lengths : ndarray of int, shape (n_scans,)
        Volumes.
    levels, spreads : ndarray, shape (n_scans,)
        Median over regions of the mean, and of the standard deviation, over time.
    """

    absent: np.ndarray
    lengths: np.ndarray
    levels: np.ndarray
    spreads: np.ndarray

    @classmethod
    def of(cls, store: TimeSeriesStore) -> ScanProperties:
        """Return the properties of every scan of a store."""
        absent = np.ones((len(store), store.n_rois), bool)
        levels, spreads = np.zeros(len(store)), np.zeros(len(store))
        for index in range(len(store)):
            series, usable = store.read(index)
            absent[index] = ~usable
            if usable.any():
                levels[index] = np.median(series[usable].mean(axis=1))
                spreads[index] = np.median(series[usable].std(axis=1))
        lengths = np.array([store.shape(index)[1] for index in range(len(store))])
        return cls(absent, lengths, levels, spreads)

    @property
    def has_raw_units(self) -> bool:
        """Whether the static level is far larger than the fluctuation: nobody scaled the series."""
        known = self.spreads > 0
        return bool(
            known.any() and np.median(np.abs(self.levels) / self.spreads.clip(1e-12)) > _RAW
        )

    @property
    def is_long(self) -> bool:
        """Whether the typical scan is no short window."""
        return bool(np.median(self.lengths) >= LONG)

    def of_missing(self) -> np.ndarray:
        """Return features of the absent regions: which, and how many."""
        count = self.absent.sum(axis=1, keepdims=True)
        varies = self.absent.any(axis=0) & ~self.absent.all(axis=0)
        return np.hstack([self.absent[:, varies], count]).astype(float)

    def of_length(self) -> np.ndarray:
        """Return features of the length: the values if they are few, else the number."""
        lengths = pd.DataFrame({"n_timepoints": self.lengths})
        if kind_of(lengths["n_timepoints"]) == "number":
            return _curve(self.lengths.astype(float))
        return ColumnEncoder().fit(lengths, ["n_timepoints"]).transform(lengths)

    def of_intensity(self) -> np.ndarray:
        """Return features of level and spread, each on a linear and a logarithmic scale."""
        logs = [np.log(np.maximum(np.abs(values), 1e-6)) for values in (self.levels, self.spreads)]
        return np.hstack([_curve(values) for values in (self.levels, self.spreads, *logs)])


def _curve(values: np.ndarray) -> np.ndarray:
    """Return z and its square, so that a band of values is told apart, too."""
    z = (values - values.mean()) / (values.std() or 1.0)
    return np.stack([z, z**2], axis=1)
