"""How much of a scan comes back: variance, connectivity, spectrum, third-order statistics.

Tensor letters: n scans, R regions, T time points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scans:
    """Scaled series with the regions that count."""

    series: np.ndarray  # (n, R, T)
    masks: np.ndarray  # (n, R) of bool

    def of(self, rows: np.ndarray) -> Scans:
        """Return some of the scans."""
        return Scans(self.series[rows], self.masks[rows])


def explained(scans: Scans, coded: np.ndarray, regions: np.ndarray | None = None) -> float:
    """Return the share of variance (about each region's mean) that ``coded`` (n, R, T) holds."""
    used = scans.masks if regions is None else scans.masks & regions
    x = scans.series[used]
    return float(1 - ((x - coded[used]) ** 2).sum() / ((x - x.mean(1, keepdims=True)) ** 2).sum())


def connectivity_agreement(scans: Scans, coded: np.ndarray) -> float:
    """Return the mean over scans of the correlation of FC before and after, edge by edge."""
    return float(
        np.mean(
            [
                edge_correlation(x[mask], y[mask])
                for x, y, mask in zip(scans.series, coded, scans.masks, strict=True)
            ]
        )
    )


def split_half_ceiling(scans: Scans) -> float:
    """Return how well FC of a scan's first half agrees with FC of its second half.

    A measurement that does not agree with itself better than this cannot be asked to come back
    better.
    """
    half = scans.series.shape[2] // 2
    first = Scans(scans.series[..., :half], scans.masks)
    return connectivity_agreement(first, scans.series[..., half : 2 * half])


def edge_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return the correlation of the edges of two sets of series (R, T)."""
    upper = np.triu_indices(len(x), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        edges = [np.nan_to_num(np.corrcoef(one))[upper] for one in (x, y)]
        found = np.corrcoef(*edges)[0, 1]
    return float(np.nan_to_num(found))


def spectrum_kept(scans: Scans, coded: np.ndarray, bands: int = 4) -> list[float]:
    """Return the power after coding over the power before, in equal bands from slow to fast."""
    power = [
        (np.abs(np.fft.rfft(x[scans.masks], axis=1)[:, 1:]) ** 2).sum(0)
        for x in (scans.series, coded)
    ]
    parts = [np.array_split(p, bands) for p in power]
    return [float(b.sum() / max(a.sum(), 1e-12)) for a, b in zip(*parts, strict=True)]


def skewness_agreement(scans: Scans, coded: np.ndarray) -> float:
    """Return the correlation over regions and scans of the series' skewness before and after."""
    skews = []
    for x in (scans.series[scans.masks], coded[scans.masks]):
        z = x - x.mean(1, keepdims=True)
        skews.append((z**3).mean(1) / np.maximum((z**2).mean(1), 1e-12) ** 1.5)
    return float(np.nan_to_num(np.corrcoef(*skews)[0, 1]))
