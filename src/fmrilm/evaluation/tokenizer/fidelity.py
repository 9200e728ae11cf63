"""How much of a scan comes back: variance, connectivity, spectrum, third-order statistics.

Tensor letters: n scans, R regions, T time points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scans:
    """Scaled series with the regions and the time points that count."""

    series: np.ndarray  # (n, R, T)
    masks: np.ndarray  # (n, R) of bool
    measured: np.ndarray | None = None  # (n, T) of bool, not padded nor censored; None: all

    def of(self, rows: np.ndarray) -> Scans:
        """Return some of the scans."""
        measured = None if self.measured is None else self.measured[rows]
        return Scans(self.series[rows], self.masks[rows], measured)

    @property
    def model_masks(self) -> np.ndarray:
        """Masks as models read them: (n, R), or (n, R, T) where time is masked."""
        if self.measured is None:
            return self.masks
        return self.masks[:, :, None] & self.measured[:, None]

    def patches(self, patch_size: int) -> np.ndarray:
        """Return the patches (k, P) of usable regions that hold a measured sample."""
        patches = self.series.reshape(*self.masks.shape, -1, patch_size)
        used = np.broadcast_to(self.masks[:, :, None], patches.shape[:3])
        if self.measured is not None:
            parts = self.measured.reshape(len(self.measured), -1, patch_size)
            used = used & np.any(parts, axis=2)[:, None, :]
        return patches[used]

    def pairs(
        self, coded: np.ndarray, regions: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the measured series (regions, time) of every scan, and the same of ``coded``."""
        measured = self.measured
        if measured is None:
            measured = np.ones((len(self.series), self.series.shape[2]), bool)
        for x, y, mask, seen in zip(self.series, coded, self.masks, measured, strict=True):
            used = mask if regions is None else mask & regions
            yield x[used][:, seen], y[used][:, seen]


def batches(
    series: np.ndarray, masks: np.ndarray, size: int, device: Any
) -> Iterator[tuple[Any, Any]]:
    """Yield series (B, R, T) as float32 and masks as tensors on a device, ``size`` at a time."""
    import torch

    for start in range(0, len(series), size):
        part = slice(start, start + size)
        fmri, mask = torch.from_numpy(series[part]).float(), torch.from_numpy(masks[part])
        yield fmri.to(device), mask.to(device)


def explained(scans: Scans, coded: np.ndarray, regions: np.ndarray | None = None) -> float:
    """Return the share of variance (about each region's mean) that ``coded`` (n, R, T) holds."""
    lost, held = 0.0, 0.0
    for x, y in scans.pairs(coded, regions):
        lost += float(((x - y) ** 2).sum())
        held += float(((x - x.mean(1, keepdims=True)) ** 2).sum())
    return float(1 - np.divide(lost, held))


def connectivity_agreement(scans: Scans, coded: np.ndarray) -> float:
    """Return the mean over scans of the correlation of FC before and after, edge by edge."""
    return float(np.mean([edge_correlation(x, y) for x, y in scans.pairs(coded)]))


def split_half_ceiling(scans: Scans) -> float:
    """Return how well FC of a scan's first half agrees with FC of its second half.

    A measurement that does not agree with itself better than this cannot be asked to come back
    better.
    """
    found = []
    for x, _ in scans.pairs(scans.series):
        half = x.shape[1] // 2
        found.append(edge_correlation(x[:, :half], x[:, half : 2 * half]))
    return float(np.mean(found))


def edge_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return the correlation of the edges of two sets of series (R, T)."""
    upper = np.triu_indices(len(x), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        edges = [np.nan_to_num(np.corrcoef(one))[upper] for one in (x, y)]
        found = np.corrcoef(*edges)[0, 1]
    return float(np.nan_to_num(found))


def spectrum_kept(scans: Scans, coded: np.ndarray, bands: int = 4) -> list[float]:
    """Return the power after coding over the power before, in equal bands from slow to fast."""
    power = np.zeros((2, bands))
    for pair in scans.pairs(coded):
        for total, x in zip(power, pair, strict=True):
            spectrum = (np.abs(np.fft.rfft(x, axis=1)[:, 1:]) ** 2).sum(0)
            total += [part.sum() for part in np.array_split(spectrum, bands)]
    return (power[1] / np.maximum(power[0], 1e-12)).tolist()


def skewness_agreement(scans: Scans, coded: np.ndarray) -> float:
    """Return the correlation over regions and scans of the series' skewness before and after."""
    skews: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for pair in scans.pairs(coded):
        for values, x in zip(skews, pair, strict=True):
            z = x - x.mean(1, keepdims=True)
            values.append((z**3).mean(1) / np.maximum((z**2).mean(1), 1e-12) ** 1.5)
    before, after = (np.concatenate(values) for values in skews)
    return float(np.nan_to_num(np.corrcoef(before, after)[0, 1]))
