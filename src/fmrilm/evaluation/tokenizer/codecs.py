"""PCA as a code of so many bits: what a tokenizer has to beat.

Principal components of patches, each rounded to a number of levels that its variance deserves
(transform coding: Goyal 2001, https://doi.org/10.1109/79.952802). ``n`` patches of ``P`` points.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr, ndtri

MAX_BITS = 8  # of one component


class PCACodec:
    """Principal components of patches, quantized to ``bits`` per patch.

    Bits are given one by one to the component whose error falls most; cells of a component are
    equally likely under a normal distribution and decoded as the training mean of the cell.

    Parameters
    ----------
    bits : float
        Per patch; rounded up to whole bits, so that PCA never has fewer.

    Attributes
    ----------
    bits_ : ndarray of int, shape (P,)
        Bits of every component.
    """

    def __init__(self, bits: float) -> None:
        self.bits = math.ceil(bits - 1e-9)

    def fit(self, patches: np.ndarray) -> PCACodec:
        """Learn components, bits and cell means from training patches (n, P)."""
        self.mean_ = patches.mean(0)
        centred = patches - self.mean_
        variance, vectors = np.linalg.eigh(centred.T @ centred / len(patches))
        order = np.argsort(variance)[::-1]
        self.components_ = vectors[:, order]  # (P, P)
        scores = centred @ self.components_
        self.scale_ = np.maximum(scores.std(0), 1e-12)
        self.bits_ = np.zeros(len(order), dtype=int)
        self.tables_ = [self._table(scores[:, j], j, 0) for j in range(len(order))]
        best: dict[int, tuple[float, np.ndarray]] = {}
        for _ in range(self.bits):
            for j in range(len(order)):
                if j not in best and self.bits_[j] < MAX_BITS:
                    table = self._table(scores[:, j], j, self.bits_[j] + 1)
                    gain = self._error(scores[:, j], j, self.tables_[j])
                    best[j] = (gain - self._error(scores[:, j], j, table), table)
            chosen = max(best, key=lambda j: best[j][0])
            self.bits_[chosen] += 1
            self.tables_[chosen] = best.pop(chosen)[1]
        return self

    def reconstruct(self, patches: np.ndarray) -> np.ndarray:
        """Return patches (n, P) after coding and decoding."""
        scores = (patches - self.mean_) @ self.components_
        coded = [
            table[self._cell(scores[:, j], j, len(table))] for j, table in enumerate(self.tables_)
        ]
        return np.stack(coded, 1) @ self.components_.T + self.mean_

    def _cell(self, scores: np.ndarray, component: int, count: int) -> np.ndarray:
        place = ndtr(scores / self.scale_[component])
        return np.minimum((place * count).astype(int), count - 1)

    def _table(self, scores: np.ndarray, component: int, bits: int) -> np.ndarray:
        count = 2**bits
        cell = self._cell(scores, component, count)
        total = np.bincount(cell, weights=scores, minlength=count)
        size = np.bincount(cell, minlength=count)
        middle = ndtri((np.arange(count) + 0.5) / count) * self.scale_[component]
        return np.where(size > 0, total / np.maximum(size, 1), middle)

    def _error(self, scores: np.ndarray, component: int, table: np.ndarray) -> float:
        return float(np.mean((scores - table[self._cell(scores, component, len(table))]) ** 2))
