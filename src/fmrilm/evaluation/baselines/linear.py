"""Penalised linear models: fitted on train, penalty chosen by cross-validation over people.

The penalty is chosen over the people of train and val together, whole people held out: a val split
of few people cannot choose it. The weights are then fitted on train alone, as the model's are.
Inputs are coordinates of :class:`fmrilm.evaluation.baselines.span.Span`, shape (n, k).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

KINDS = ("logistic", "ridge", "svm")
WEAKEST = 2  # penalties in a row that do worse, after which no weaker ones are tried
N_FOLDS = 5
PENALTIES = {  # from the strongest to the weakest
    "logistic": tuple(10.0**power for power in range(-2, 6)),  # C, inverse of the penalty
    "ridge": tuple(10.0**power for power in range(2, -5, -1)),  # the penalty
    "svm": tuple(10.0**power for power in range(-2, 4)),  # C
}
Pair = tuple[np.ndarray, np.ndarray]  # of train and val
Answer = Callable[[np.ndarray], np.ndarray]


def folds(labels: np.ndarray, people: np.ndarray, classes: bool) -> list[Pair]:
    """Return positions to fit on and to hold out, nobody in both; empty with too few people.

    Parameters
    ----------
    labels : ndarray, shape (n,)
    people : ndarray, shape (n,)
        Who each scan is of.
    classes : bool
        Whether the labels are classes, which are then spread evenly over the folds.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    rarest = [len(np.unique(people[labels == one])) for one in np.unique(labels)]
    count = min(N_FOLDS, *rarest) if classes else min(N_FOLDS, len(np.unique(people)))
    if count < 2:
        return []
    if not classes:
        return list(GroupKFold(count).split(labels, groups=people))
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
    parts = splitter.split(labels, labels, people)
    return [(fit, held) for fit, held in parts if len(np.unique(labels[fit])) == len(rarest)]


def _join(subjects: Pair | None, parts: Pair) -> np.ndarray:
    """Return who every scan of train and val is of; without names everybody is alone."""
    return np.arange(sum(map(len, parts))) if subjects is None else np.concatenate(subjects)


class Ridge:
    """Ridge regression of several targets (n, m) at any penalty, by one decomposition."""

    def __init__(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        self.centre, self.offset = inputs.mean(axis=0), targets.mean(axis=0)
        centred = inputs - self.centre
        squared, self.vectors = np.linalg.eigh(centred.T @ centred)
        self.squared = np.maximum(squared, 0)[:, None]
        self.products = self.vectors.T @ (centred.T @ (targets - self.offset))

    def at(self, penalty: float | np.ndarray) -> Answer:
        """Return the model of a penalty, or of one per target (m,)."""
        weights = self.vectors @ (self.products / (self.squared + penalty))
        return lambda inputs: (inputs - self.centre) @ weights + self.offset


class _RidgeClasses(Ridge):
    """Ridge regression of plus or minus 1 for every class, its values being the decisions."""

    def __init__(self, inputs: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> None:
        wanted = classes[1:] if len(classes) == 2 else classes
        super().__init__(inputs, np.where(labels[:, None] == wanted, 1.0, -1.0))


class _Logistic:
    """Logistic regression; a weaker penalty starts where the one before ended."""

    def __init__(self, inputs: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> None:
        from sklearn.linear_model import LogisticRegression

        self.known = inputs, labels
        self.columns = np.searchsorted(classes, np.unique(labels))
        self.count = len(classes)
        self.model = LogisticRegression(max_iter=2000, warm_start=True)

    def at(self, penalty: float) -> Answer:
        model = self.model.set_params(C=penalty).fit(*self.known)

        def answer(inputs: np.ndarray) -> np.ndarray:
            found = np.zeros((len(inputs), self.count))
            found[:, self.columns] = model.predict_proba(inputs)
            return found

        return answer


class _SVM:
    """Linear support vector machine, one class against the rest."""

    def __init__(self, inputs: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> None:
        self.known = inputs, labels

    def at(self, penalty: float) -> Answer:
        from sklearn.svm import SVC

        model = SVC(kernel="linear", C=penalty, random_state=0).fit(*self.known)

        def answer(inputs: np.ndarray) -> np.ndarray:
            found = np.asarray(model.decision_function(inputs))
            return found[:, None] if found.ndim == 1 else found

        return answer


_MODELS: dict[str, Any] = {"logistic": _Logistic, "ridge": _RidgeClasses, "svm": _SVM}


@dataclass
class LinearBaseline:
    """Logistic regression, a ridge classifier or a linear SVM.

    The decisions of ridge and SVM become probabilities by a logistic curve (Platt), fitted on
    the decisions about held-out people.

    Attributes
    ----------
    penalty_ : float
        With the lowest log-loss on held-out people; the strongest where a class has only one.
    """

    kind: str = "logistic"
    penalties: tuple[float, ...] | None = None
    penalty_: float = field(init=False, default=float("nan"))

    def fit(self, inputs: Pair, labels: Pair, subjects: Pair | None = None) -> LinearBaseline:
        """Fit on train, choosing the penalty over the people of train and val.

        Parameters
        ----------
        inputs : two ndarrays, shapes (n, k) and (m, k)
            Of train and val.
        labels : two ndarrays
        subjects : two ndarrays, optional
            Who each scan is of; None: every scan is of somebody else.
        """
        self.classes_ = np.unique(labels[0])
        penalties = self.penalties or PENALTIES[self.kind]
        people, known = _join(subjects, labels), np.isin(np.concatenate(labels), self.classes_)
        x, y = np.concatenate(inputs)[known], np.concatenate(labels)[known]
        parts = folds(y, people[known], classes=True)
        self.penalty_, self.curve_ = self._choose(x, y, parts, penalties)
        self.answer_ = _MODELS[self.kind](inputs[0], labels[0], self.classes_).at(self.penalty_)
        return self

    def _choose(
        self, x: np.ndarray, y: np.ndarray, parts: list[Pair], penalties: tuple[float, ...]
    ) -> tuple[float, Any]:
        """Return the penalty, and the curve from decisions to probabilities if there is one."""
        if not parts or (len(penalties) == 1 and self.kind == "logistic"):
            return penalties[0], None
        models = [_MODELS[self.kind](x[fit], y[fit], self.classes_) for fit, _ in parts]
        held = np.concatenate([out for _, out in parts])
        best, chosen, curve, worse = np.inf, penalties[0], None, 0
        for penalty in penalties:
            told = [
                model.at(penalty)(x[out]) for model, (_, out) in zip(models, parts, strict=True)
            ]
            answers = np.concatenate(told)
            drawn = None if self.kind == "logistic" else _platt(answers, y[held], self.classes_)
            loss = self._loss(self._probabilities(answers, drawn), y[held])
            worse = 0 if loss < best - 1e-9 else worse + 1
            if not worse:
                best, chosen, curve = loss, penalty, drawn
            elif worse == WEAKEST:
                break
        return chosen, curve

    def _probabilities(self, answers: np.ndarray, curve: Any) -> np.ndarray:
        if self.kind == "logistic":
            return answers
        if curve is not None:
            return curve.predict_proba(answers)
        first = answers.argmax(axis=1) if answers.shape[1] > 1 else (answers[:, 0] > 0).astype(int)
        return np.eye(len(self.classes_))[first]

    def _loss(self, probabilities: np.ndarray, labels: np.ndarray) -> float:
        columns = np.searchsorted(self.classes_, labels)
        chosen = probabilities[np.arange(len(labels)), columns]
        return float(-np.log(np.clip(chosen, 1e-12, 1)).mean())

    def predict_proba(self, inputs: np.ndarray, n_classes: int) -> np.ndarray:
        """Return class probabilities, shape (n, n_classes); 0 for a class absent from train."""
        probabilities = np.zeros((len(inputs), n_classes))
        probabilities[:, self.classes_] = self._probabilities(self.answer_(inputs), self.curve_)
        return probabilities


@dataclass
class LinearValues:
    """Ridge regression of a number, or of several, each with a penalty of its own.

    Attributes
    ----------
    penalty_ : ndarray, shape (m,)
        With the lowest squared error on held-out people; the strongest with one person.
    """

    penalties: tuple[float, ...] = PENALTIES["ridge"]
    penalty_: np.ndarray = field(init=False, default_factory=lambda: np.full(1, np.nan))

    def fit(self, inputs: Pair, values: Pair, subjects: Pair | None = None) -> LinearValues:
        """Fit on train, choosing the penalty over the people of train and val.

        Parameters
        ----------
        inputs : two ndarrays, shapes (n, k) and (m, k)
        values : two ndarrays, shapes (n,) and (m,), or (n, targets) and (m, targets)
        subjects : two ndarrays, optional
        """
        targets = [part.reshape(len(part), -1).astype(float) for part in values]
        x, y = np.concatenate(inputs), np.concatenate(targets)
        loss = np.zeros((len(self.penalties), y.shape[1]))
        for fit, out in folds(y[:, 0], _join(subjects, inputs), classes=False):
            model = Ridge(x[fit], y[fit])
            for index, penalty in enumerate(self.penalties):
                loss[index] += ((model.at(penalty)(x[out]) - y[out]) ** 2).sum(axis=0)
        self.penalty_ = np.array(self.penalties)[loss.argmin(axis=0)]
        self.answer_ = Ridge(inputs[0], targets[0]).at(self.penalty_)
        self.shape_ = values[0].shape[1:]
        return self

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Return the predicted values, shape (n,) or (n, targets)."""
        return self.answer_(inputs).reshape(len(inputs), *self.shape_)


def _platt(decisions: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> Any:
    """Return the curve from decisions to probabilities; None where a class is lacking."""
    from sklearn.linear_model import LogisticRegression

    if not np.isin(classes, labels).all():
        return None
    return LogisticRegression(C=10.0, max_iter=2000).fit(decisions, labels)
