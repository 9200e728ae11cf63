"""QC-FC: does the connectivity of a cohort still depend on how much people moved?

Power et al. (2012, NeuroImage 59, 2142) and Ciric et al. (2017, NeuroImage 154, 174): over samples,
the correlation of every edge with mean FD, and of that with the distance between its two regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEWEST = 10  # samples with known FD, below which nothing is said


@dataclass(frozen=True)
class QCFC:
    """Dependence of the edges on motion.

    Attributes
    ----------
    edges : ndarray, shape (n_edges,)
        Pearson correlation of each edge's Fisher z with mean FD over samples.
    distances : ndarray, shape (n_edges,)
        mm between the regions; NaN where a centroid is unknown.
    n_samples : int
    """

    edges: np.ndarray
    distances: np.ndarray
    n_samples: int

    @property
    def median(self) -> float:
        """Median absolute correlation."""
        return float(np.median(np.abs(self.edges)))

    @property
    def expected(self) -> float:
        """Median absolute correlation of as many samples without any dependence."""
        from scipy.stats import t

        middle = t.ppf(0.75, self.n_samples - 2)
        return float(middle / np.sqrt(self.n_samples - 2 + middle**2))

    @property
    def significant(self) -> float:
        """Share of the edges with p < 0.05, uncorrected; 0.05 without any dependence."""
        from scipy.stats import t

        limit = t.ppf(0.975, self.n_samples - 2)
        return float((np.abs(self.edges) > limit / np.sqrt(self.n_samples - 2 + limit**2)).mean())

    @property
    def distance_dependence(self) -> float:
        """Spearman correlation of the edges' correlation with their length; NaN if unknown."""
        from scipy.stats import spearmanr

        known = np.isfinite(self.distances)
        if known.sum() < 3:
            return float("nan")
        return float(spearmanr(self.edges[known], self.distances[known]).statistic)


class MotionDependence:
    """Collects connectivity and mean FD sample by sample, in the memory of a few matrices.

    Parameters
    ----------
    n_rois : int
    """

    def __init__(self, n_rois: int) -> None:
        self._upper = np.triu_indices(n_rois, 1)
        self._sums = np.zeros((6, len(self._upper[0])))  # n, x, y, xx, yy, xy
        self._count = 0

    def add(self, matrix: np.ndarray, mean_fd: float) -> None:
        """Add one sample: Fisher z (n_rois, n_rois), NaN where unknown, and its mean FD in mm."""
        if not np.isfinite(mean_fd):
            return
        x = matrix[self._upper].astype(float)
        known = np.isfinite(x)
        x = np.where(known, x, 0.0)
        y = known * mean_fd
        self._sums += (known, x, y, x * x, y * mean_fd, x * mean_fd)
        self._count += 1

    def result(self, centroids: np.ndarray) -> QCFC | None:
        """Return the dependence, None if too few samples have a known FD that varies.

        Parameters
        ----------
        centroids : ndarray, shape (n_rois, 3)
            mm, NaN where unknown.
        """
        if self._count < FEWEST:
            return None
        n, x, y, xx, yy, xy = self._sums
        scale = np.sqrt(np.clip(n * xx - x * x, 0, None) * np.clip(n * yy - y * y, 0, None))
        good = (n >= FEWEST) & (scale > 1e-9)
        if not good.any():
            return None
        edges = (n * xy - x * y)[good] / scale[good]
        rows, columns = (side[good] for side in self._upper)
        distances = np.linalg.norm(centroids[rows] - centroids[columns], axis=1)
        return QCFC(edges, distances, self._count)
