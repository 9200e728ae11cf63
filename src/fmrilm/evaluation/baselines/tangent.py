"""Connectivity in the tangent space of covariances (Varoquaux et al. 2010).

https://doi.org/10.1007/978-3-642-15705-9_25. The reference is the log-Euclidean mean of training
scans (Arsigny et al. 2006, https://doi.org/10.1002/mrm.20965): one decomposition per scan, where
the geometric mean takes one per scan and iteration. Shrinkage: Ledoit and Wolf 2004,
https://doi.org/10.1016/S0047-259X(03)00096-4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fmrilm.evaluation.baselines.storage import allocate

BATCH = 16  # matrices that are decomposed at a time
MAX_REFERENCE = 200  # training scans that the reference is the mean of
SMALLEST = 1e-6  # eigenvalue, so that a logarithm is finite


def shrunk_covariance(series: np.ndarray, roi_mask: np.ndarray) -> np.ndarray:
    """Return the upper triangle, diagonal included, of a scan's covariance, (R (R + 1) / 2,).

    Of regions scaled to variance 1, shrunk by Ledoit and Wolf; an unusable region is uncorrelated.

    Parameters
    ----------
    series : ndarray, shape (R, T)
    roi_mask : ndarray of bool, shape (R,)
    """
    deviation = series.std(axis=1, keepdims=True)
    usable = roi_mask & (deviation[:, 0] > 0)
    scaled = (series - series.mean(axis=1, keepdims=True))[usable] / deviation[usable]
    full = np.eye(len(series))
    if usable.any():
        full[np.ix_(usable, usable)] = _shrink(scaled)
    return full[np.triu_indices(len(series))].astype(np.float32)


def _shrink(scaled: np.ndarray) -> np.ndarray:
    """Return the shrunk covariance of regions of mean 0 and variance 1 (R, T)."""
    n_rois, length = scaled.shape
    covariance = scaled @ scaled.T / length
    identity = np.eye(n_rois)
    # The sum over all pairs of the mean product of squares needs no product of matrices.
    fourth = ((scaled**2).sum(axis=0) ** 2).sum() / length
    noise = (fourth - (covariance**2).sum()) / length
    spread = ((covariance - identity) ** 2).sum()
    share = min(1.0, noise / spread) if spread > 0 else 1.0
    return (1 - share) * covariance + share * identity


@dataclass
class TangentSpace:
    """Covariances as deviations from those of the training scans.

    Attributes
    ----------
    whitening_ : ndarray, shape (R, R)
        The reference to the power of minus one half.
    """

    def fit(self, covariances: np.ndarray) -> TangentSpace:
        """Learn the reference from upper triangles (n, R (R + 1) / 2) of training scans."""
        n_rois = round((np.sqrt(1 + 8 * covariances.shape[1]) - 1) / 2)
        total = np.zeros((n_rois, n_rois))
        drawn = covariances[:: -(-len(covariances) // MAX_REFERENCE)]
        for part in _batches(len(drawn)):
            total += _map(_square(drawn[part], n_rois), np.log).sum(axis=0)
        logarithm = total / len(drawn)
        values, vectors = np.linalg.eigh(logarithm)
        self.whitening_ = (vectors * np.exp(-values / 2)) @ vectors.T
        return self

    def transform(self, covariances: np.ndarray) -> np.ndarray:
        """Return the logarithms of whitened covariances, in the same shape."""
        n_rois = len(self.whitening_)
        upper = np.triu_indices(n_rois)
        logarithms = allocate(covariances.shape, covariances.dtype)
        for part in _batches(len(covariances)):
            white = self.whitening_ @ _square(covariances[part], n_rois) @ self.whitening_
            logarithms[part] = _map(white, np.log)[:, upper[0], upper[1]]
        return logarithms


def _square(triangles: np.ndarray, n_rois: int) -> np.ndarray:
    row, column = np.triu_indices(n_rois)
    full = np.empty((len(triangles), n_rois, n_rois))
    full[:, row, column] = full[:, column, row] = triangles
    return full


def _map(matrices: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return symmetric matrices (n, R, R) with a function applied to their eigenvalues."""
    values, vectors = np.linalg.eigh(matrices)
    mapped = function(np.maximum(values, SMALLEST))[:, None, :]
    return (vectors * mapped) @ vectors.transpose(0, 2, 1)


def _batches(count: int) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, count, BATCH))
