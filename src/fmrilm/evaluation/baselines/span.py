"""Many features as coordinates in the span of the scans that are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

MAX_COMPONENTS = 1000  # kept exactly up to so many scans or features, beyond that the leading ones
CELLS = 2**23  # values that are standardised at a time, 32 MB in float32
SKETCH_SEED = 0


@dataclass
class Span:
    """Features standardised on the training scans, in the span of the training and val scans.

    Penalised weights lie in the span of the scans they are fitted to: with fewer scans than
    features the coordinates in it give the same answer. Beyond :data:`MAX_COMPONENTS` scans the
    leading components are found by a randomised decomposition with one power iteration (Halko et
    al. 2011, https://doi.org/10.1137/090771806), so that time and memory grow with the scans and
    not with their square. Missing features (nan) are set to the mean of the training scans.

    Attributes
    ----------
    mean_, scale_ : ndarray of float32, shape (p,)
    basis_ : ndarray of float32, shape (p, k), or None
        None where there are few features.
    norm_ : float
        Root mean square length of a training scan.
    """

    max_components: int = MAX_COMPONENTS

    def fit(self, features: np.ndarray, val_features: np.ndarray) -> Span:
        """Learn centre and scale on train (n, p), the span on train and val (m, p)."""
        width = features.shape[1]
        self.mean_ = np.zeros(width, np.float32)
        self.scale_ = np.full(width, np.inf, np.float32)  # a constant feature says nothing
        for part in _parts(width, len(features)):
            values = features[:, part].astype(float)
            observed = ~np.isnan(values)
            counts = np.maximum(observed.sum(axis=0), 1)
            mean = np.where(observed, values, 0).sum(axis=0) / counts
            spread = np.sqrt((np.where(observed, values - mean, 0) ** 2).sum(axis=0) / counts)
            clear = spread > 1e-6 * np.maximum(np.abs(mean), 1e-6)
            self.mean_[part] = mean
            self.scale_[part] = np.where(clear, spread, np.inf)
        known = [features, val_features]
        count = len(features) + len(val_features)
        self.basis_: np.ndarray | None = None
        if width > min(count, self.max_components):
            exact = count <= self.max_components
            self.basis_ = self._exact(known) if exact else self._leading(known, count)
        self.norm_ = 1.0
        size = np.sqrt((self.transform(features) ** 2).sum(axis=1).mean())
        self.norm_ = max(float(size), 1e-12)
        return self

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Return scans (n, p) as float64 coordinates (n, k), a training scan's of mean length 1."""
        if self.basis_ is None:
            return self._standardise([features], slice(None)).astype(float) / self.norm_
        return self._product([features], self.basis_).astype(float) / self.norm_

    def _standardise(self, known: Sequence[np.ndarray], part: slice) -> np.ndarray:
        """Return some features of several sets of scans below each other, (n, columns)."""
        values = np.concatenate([x[:, part] for x in known]).astype(np.float32)
        values -= self.mean_[part]
        values /= self.scale_[part]
        return np.nan_to_num(values, copy=False)

    def _product(self, known: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
        total = np.zeros((sum(map(len, known)), weights.shape[1]), np.float32)
        for part in _parts(len(weights), len(total)):
            total += self._standardise(known, part) @ weights[part]
        return total

    def _exact(self, known: Sequence[np.ndarray]) -> np.ndarray:
        """Return an orthonormal basis (p, rank) of the span, by the scans' Gram matrix."""
        width, count = len(self.mean_), sum(map(len, known))
        gram = np.zeros((count, count))
        for part in _parts(width, count):
            values = self._standardise(known, part)
            gram += values @ values.T
        squared, vectors = np.linalg.eigh(gram)
        kept = squared > squared.max() * 1e-6  # float32 products tell no smaller ones
        return self._combine(known, vectors[:, kept] / np.sqrt(squared[kept]))

    def _leading(self, known: Sequence[np.ndarray], count: int) -> np.ndarray:
        """Return an orthonormal basis (p, k) of about the leading components."""
        width = len(self.mean_)
        rng = np.random.default_rng(SKETCH_SEED)
        sketch = np.zeros((count, self.max_components), np.float32)
        for part in _parts(width, count):
            values = self._standardise(known, part)
            shape = (values.shape[1], self.max_components)
            sketch += values @ rng.standard_normal(shape, dtype=np.float32)
        sketch = self._product(known, self._combine(known, np.linalg.qr(sketch)[0]))
        basis = self._combine(known, np.linalg.qr(sketch)[0])
        squared, vectors = np.linalg.eigh((basis.T @ basis).astype(float))
        kept = squared > squared.max() * 1e-6
        turned = (vectors[:, kept] / np.sqrt(squared[kept])).astype(np.float32)
        found = np.empty((width, turned.shape[1]), np.float32)
        for part in _parts(width, count):
            found[part] = basis[part] @ turned
        return found

    def _combine(self, known: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
        """Return sums of the scans, (p, k), with weights (n, k)."""
        weights = weights.astype(np.float32)
        found = np.empty((len(self.mean_), weights.shape[1]), np.float32)
        for part in _parts(len(found), len(weights)):
            found[part] = self._standardise(known, part).T @ weights
        return found


def _parts(width: int, count: int) -> Iterator[slice]:
    """Yield slices of the features, narrower the more scans there are."""
    columns = max(1, CELLS // max(count, 1))
    return (slice(start, start + columns) for start in range(0, width, columns))
