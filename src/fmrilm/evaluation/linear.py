"""Penalised linear models on many features: fitted on train, penalty chosen on val."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

KINDS = ("logistic", "ridge", "svm")
PENALTIES = {
    "logistic": tuple(10.0**power for power in range(-2, 6)),  # C, inverse of the penalty
    "ridge": tuple(10.0**power for power in range(-4, 3)),  # the penalty
    "svm": tuple(10.0**power for power in range(-2, 4)),  # C
}


class _Scaled:
    """Features standardised on the training scans, in the span of these.

    With more features than scans the problem is solved in the span of the training scans, which
    gives the same answer (the penalised weights lie in it) at the cost of n x n instead of p.
    Missing features (nan) are set to the mean of the training scans.
    """

    def _learn_scale(self, features: np.ndarray) -> np.ndarray:
        """Learn centre, scale and basis on the training scans, and return them projected."""
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
        return scaled / self.norm_

    def _project(self, features: np.ndarray) -> np.ndarray:
        centred = np.where(np.isnan(features), 0.0, features - self.mean_) / self.scale_
        return (centred if self.basis_ is None else centred @ self.basis_) / self.norm_


@dataclass
class LinearBaseline(_Scaled):
    """Standardise, then logistic regression, a ridge classifier or a linear SVM.

    The decisions of ridge and SVM become probabilities by a logistic curve fitted on the
    validation scans (Platt).

    Attributes
    ----------
    penalty_ : float
        Chosen on the validation scans by log-loss.
    """

    kind: str = "logistic"
    penalties: tuple[float, ...] | None = None
    penalty_: float = field(init=False, default=float("nan"))

    def fit(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        val_features: np.ndarray,
        val_labels: np.ndarray,
    ) -> LinearBaseline:
        """Fit on ``features`` (n, p), choosing the penalty on the validation scans."""
        self.classes_ = np.unique(labels)
        inputs = self._learn_scale(features)
        val_inputs = self._project(val_features)
        best = np.inf
        for penalty in self.penalties or PENALTIES[self.kind]:
            model = _build(self.kind, penalty).fit(inputs, labels)
            curve = None
            if self.kind != "logistic":
                curve = _platt(_decisions(model, val_inputs), val_labels, self.classes_)
            loss = self._loss(self._probabilities(model, curve, val_inputs), val_labels)
            if loss < best - 1e-9:
                best, self.penalty_, self.model_, self.curve_ = loss, penalty, model, curve
        return self

    def _probabilities(self, model: Any, curve: Any, inputs: np.ndarray) -> np.ndarray:
        if curve is None:
            if hasattr(model, "predict_proba"):
                return model.predict_proba(inputs)
            return np.eye(len(self.classes_))[np.searchsorted(self.classes_, model.predict(inputs))]
        return curve.predict_proba(_decisions(model, inputs))

    def _loss(self, probabilities: np.ndarray, labels: np.ndarray) -> float:
        known = np.isin(labels, self.classes_)
        columns = np.searchsorted(self.classes_, labels[known])
        chosen = probabilities[known, columns]
        return float(-np.log(np.clip(chosen, 1e-12, 1)).mean()) if len(chosen) else 0.0

    def predict_proba(self, features: np.ndarray, n_classes: int) -> np.ndarray:
        """Return class probabilities, shape (n, n_classes); 0 for a class absent from train."""
        probabilities = np.zeros((len(features), n_classes))
        inputs = self._project(features)
        probabilities[:, self.classes_] = self._probabilities(self.model_, self.curve_, inputs)
        return probabilities


@dataclass
class LinearValues(_Scaled):
    """Standardise, then ridge regression of a number.

    Attributes
    ----------
    penalty_ : float
        Chosen on the validation scans by squared error; the strongest where there are none.
    """

    penalties: tuple[float, ...] = PENALTIES["ridge"]
    penalty_: float = field(init=False, default=float("nan"))

    def fit(
        self,
        features: np.ndarray,
        values: np.ndarray,
        val_features: np.ndarray,
        val_values: np.ndarray,
    ) -> LinearValues:
        """Fit on ``features`` (n, p), choosing the penalty on the validation scans."""
        from sklearn.linear_model import Ridge

        inputs, val_inputs = self._learn_scale(features), self._project(val_features)
        best = np.inf
        for penalty in sorted(self.penalties, reverse=True):
            model = Ridge(alpha=penalty).fit(inputs, values)
            errors = model.predict(val_inputs) - val_values if len(val_values) else np.zeros(1)
            loss = float((errors**2).mean())
            if loss < best:
                best, self.penalty_, self.model_ = loss, penalty, model
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the predicted values, shape (n,)."""
        return np.asarray(self.model_.predict(self._project(features)), dtype=float)


def _build(kind: str, penalty: float) -> Any:
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import SVC

    if kind == "logistic":
        return LogisticRegression(C=penalty, max_iter=2000)
    if kind == "ridge":
        return RidgeClassifier(alpha=penalty)
    return SVC(kernel="linear", C=penalty, random_state=0)


def _decisions(model: Any, inputs: np.ndarray) -> np.ndarray:
    found = np.asarray(model.decision_function(inputs))
    return found[:, None] if found.ndim == 1 else found


def _platt(decisions: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> Any:
    """Return the curve from decisions to probabilities; None if val lacks a class."""
    from sklearn.linear_model import LogisticRegression

    if not np.isin(classes, labels).all():
        return None
    return LogisticRegression(C=10.0, max_iter=2000).fit(decisions, labels)
