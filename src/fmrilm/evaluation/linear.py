"""Ridge-penalised logistic regression on many features: fitted on train, penalty chosen on val."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

PENALTIES = tuple(10.0**power for power in range(-2, 6))  # the grid of C


@dataclass
class LogisticBaseline:
    """Standardise, then logistic regression with an L2 penalty.

    With more features than scans the problem is solved in the span of the training scans, which
    gives the same answer (the penalised weights lie in it) at the cost of n x n instead of p.
    Missing features (nan) are set to the mean of the training scans.

    Attributes
    ----------
    C_ : float
        Chosen on the validation scans by log-loss.
    """

    penalties: tuple[float, ...] = PENALTIES
    C_: float = field(init=False, default=float("nan"))

    def fit(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        val_features: np.ndarray,
        val_labels: np.ndarray,
    ) -> LogisticBaseline:
        """Fit on ``features`` (n, p), choosing the penalty on the validation scans."""
        from sklearn.linear_model import LogisticRegression

        self.classes_ = np.unique(labels)
        observed = ~np.isnan(features)
        counts = np.maximum(observed.sum(axis=0), 1)
        self.mean_ = np.where(observed, features, 0).sum(axis=0) / counts
        centred = np.where(observed, features - self.mean_, 0.0)
        scale = np.sqrt((centred**2).sum(axis=0) / counts)
        self.scale_ = np.where(scale > 0, scale, np.inf)  # a constant feature says nothing
        scaled = centred / self.scale_
        self.basis_ = None
        if scaled.shape[1] > scaled.shape[0]:
            squared, vectors = np.linalg.eigh((scaled @ scaled.T).astype(float))
            kept = squared > squared.max() * 1e-9
            self.basis_ = scaled.T @ (vectors[:, kept] / np.sqrt(squared[kept]))  # (p, rank)
            scaled = scaled @ self.basis_
        self.norm_ = max(float(np.sqrt((scaled**2).sum(axis=1).mean())), 1e-12)
        inputs, val_inputs = scaled / self.norm_, self._project(val_features)
        best = np.inf
        for penalty in self.penalties:
            model: Any = LogisticRegression(C=penalty, max_iter=2000)
            model.fit(inputs, labels)
            loss = self._loss(model.predict_proba(val_inputs), val_labels)
            if loss < best - 1e-9:
                best, self.C_, self.model_ = loss, penalty, model
        return self

    def _project(self, features: np.ndarray) -> np.ndarray:
        centred = np.where(np.isnan(features), 0.0, features - self.mean_) / self.scale_
        return (centred if self.basis_ is None else centred @ self.basis_) / self.norm_

    def _loss(self, probabilities: np.ndarray, labels: np.ndarray) -> float:
        known = np.isin(labels, self.classes_)
        columns = np.searchsorted(self.classes_, labels[known])
        chosen = probabilities[known, columns]
        return float(-np.log(np.clip(chosen, 1e-12, 1)).mean()) if len(chosen) else 0.0

    def predict_proba(self, features: np.ndarray, n_classes: int) -> np.ndarray:
        """Return class probabilities, shape (n, n_classes); 0 for a class absent from train."""
        probabilities = np.zeros((len(features), n_classes))
        probabilities[:, self.classes_] = self.model_.predict_proba(self._project(features))
        return probabilities
