"""Scores of class probabilities, computed for many weightings of the scans at once.

Every metric takes weights of shape (S, n) and returns S values: a row of ones gives the plain
score, the rows of a subject bootstrap give its distribution without a loop over resamples.
A score that is not defined (a class is missing) is nan, never 0; :func:`undefined_reason` says why.
``n`` scans, ``C`` classes, ``S`` weightings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

UNPARSED = -1  # predicted class of an answer that names none of the candidates
ECE_BINS = 10

# (labels (n,), probabilities (n, C), predicted (n,), weights (S, n)) -> (S,)
Metric = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def confusion(
    labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray, n_classes: int
) -> np.ndarray:
    """Return weighted confusion matrices, shape (S, C, C + 1).

    Rows are labels, columns predictions; the last column counts unparsed answers.
    """
    columns = np.where(predicted == UNPARSED, n_classes, predicted)
    cells = labels * (n_classes + 1) + columns
    onehot = np.zeros((len(labels), n_classes * (n_classes + 1)))
    onehot[np.arange(len(labels)), cells] = 1.0
    return (weights @ onehot).reshape(len(weights), n_classes, n_classes + 1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, np.nan)


def accuracy(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the share of right answers; an unparsed answer is a wrong one."""
    return _ratio(weights @ (labels == predicted).astype(float), weights.sum(axis=1))


def recalls(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the recall of every class, shape (S, C); nan for a class that has no scan."""
    n_classes = probabilities.shape[1]
    table = confusion(labels, predicted, weights, n_classes)
    return _ratio(np.einsum("scc->sc", table[:, :, :n_classes]), table.sum(axis=2))


def balanced_accuracy(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the mean recall of the classes; nan if a class has no scan."""
    return recalls(labels, probabilities, predicted, weights).mean(axis=1)


def sensitivity(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the recall of the positive (second) class of a binary task."""
    return recalls(labels, probabilities, predicted, weights)[:, 1]


def specificity(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the recall of the negative (first) class of a binary task."""
    return recalls(labels, probabilities, predicted, weights)[:, 0]


def f1(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the F1 of the positive class (binary) or its mean over the classes (more).

    A class that has scans but is never answered has F1 0; nan if a class has no scan.
    """
    n_classes = probabilities.shape[1]
    table = confusion(labels, predicted, weights, n_classes)
    hits = np.einsum("scc->sc", table[:, :, :n_classes])
    actual, answered = table.sum(axis=2), table[:, :, :n_classes].sum(axis=1)
    scores = np.where(actual > 0, _ratio(2 * hits, actual + answered), np.nan)
    return np.where(
        np.isnan(scores).any(axis=1), np.nan, scores[:, 1] if n_classes == 2 else scores.mean(1)
    )


def mcc(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return Matthews' correlation, for any number of classes (Gorodkin 2004).

    0 when every answer is the same; nan if a class has no scan.
    """
    n_classes = probabilities.shape[1]
    table = confusion(labels, predicted, weights, n_classes)
    hits = np.einsum("scc->s", table[:, :, :n_classes])
    actual, answered, total = table.sum(axis=2), table.sum(axis=1), table.sum(axis=(1, 2))
    cover = hits * total - (actual * answered[:, :n_classes]).sum(axis=1)
    spread_answers = total**2 - (answered**2).sum(axis=1)
    spread_labels = total**2 - (actual**2).sum(axis=1)
    spread = np.sqrt(np.maximum(spread_answers * spread_labels, 0))
    score = np.where(spread > 0, cover / np.where(spread > 0, spread, 1), 0.0)
    return np.where((actual > 0).all(axis=1), score, np.nan)


def weighted_auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve, ties counted half, shape (S,).

    Parameters
    ----------
    positive : ndarray of bool, shape (n,)
    scores : ndarray, shape (n,)
        Higher means more positive.
    weights : ndarray, shape (S, n)
    """
    order = np.argsort(scores, kind="stable")
    starts = _group_starts(scores[order])
    ordered = weights[:, order]
    is_positive = positive[order].astype(float)
    up = np.add.reduceat(ordered * is_positive, starts, axis=1)
    down = np.add.reduceat(ordered * (1 - is_positive), starts, axis=1)
    below = np.cumsum(down, axis=1) - down
    wins = (up * (below + 0.5 * down)).sum(axis=1)
    return _ratio(wins, up.sum(axis=1) * down.sum(axis=1))


def _group_starts(ordered: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1])


def auc(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the ROC-AUC from probabilities: binary, or the mean over one class against the rest.

    nan if a class has no scan.
    """
    return _one_against_rest(weighted_auc, labels, probabilities, weights)


def weighted_average_precision(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the average precision (area under the precision-recall steps), shape (S,)."""
    order = np.argsort(-scores, kind="stable")
    starts = _group_starts(scores[order])
    ordered = weights[:, order]
    up = np.add.reduceat(ordered * positive[order], starts, axis=1)
    total = np.add.reduceat(ordered, starts, axis=1)
    precision = _ratio(np.cumsum(up, axis=1), np.cumsum(total, axis=1))
    area = np.nansum(up * precision, axis=1)
    return _ratio(area, up.sum(axis=1))


def pr_auc(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the average precision of the positive class, or its mean over the classes."""
    return _one_against_rest(weighted_average_precision, labels, probabilities, weights)


def _one_against_rest(
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    labels: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    n_classes = probabilities.shape[1]
    classes = [1] if n_classes == 2 else list(range(n_classes))
    values = np.mean([score(labels == c, probabilities[:, c], weights) for c in classes], axis=0)
    present = np.stack([weights @ (labels == c) for c in range(n_classes)]) > 0
    return np.where(present.all(axis=0), values, np.nan)


def brier(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the Brier score: of the positive class (binary), summed over classes (more)."""
    truth = np.eye(probabilities.shape[1])[labels]
    squares = (probabilities - truth) ** 2
    errors = squares[:, 1] if probabilities.shape[1] == 2 else squares.sum(axis=1)
    return _ratio(weights @ errors, weights.sum(axis=1))


def log_loss(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the mean negative log-probability of the label, in nats."""
    chosen = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1.0)
    return _ratio(weights @ -np.log(chosen), weights.sum(axis=1))


def ece(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the expected calibration error of the most probable class, ten equal bins.

    Guo et al. 2017, arXiv 1706.04599. Biased upwards in small samples.
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == labels).astype(float)
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    onehot = np.eye(ECE_BINS)[bins]
    gaps = np.abs(weights @ (onehot * (right - confidence)[:, None]))
    return _ratio(gaps.sum(axis=1), weights.sum(axis=1))


_COMMON: dict[str, Metric] = {
    "auc": auc,
    "balanced_accuracy": balanced_accuracy,
    "accuracy": accuracy,
    "f1": f1,
    "pr_auc": pr_auc,
    "mcc": mcc,
}
_PROBABILITY: dict[str, Metric] = {"brier": brier, "log_loss": log_loss, "ece": ece}
PRIMARY = "auc"
NEEDS_EVERY_CLASS = ("auc", "balanced_accuracy", "f1", "pr_auc", "mcc", "quadratic_kappa")
NEEDS_SPREAD = ("r", "r2", "spearman")


def classification_metrics(n_classes: int) -> dict[str, Metric]:
    """Return the metrics of a task with ``n_classes`` classes, by name."""
    binary = {"sensitivity": sensitivity, "specificity": specificity} if n_classes == 2 else {}
    return {**_COMMON, **binary, **_PROBABILITY}


def undefined_reason(name: str, labels: np.ndarray, classes: list[str]) -> str:
    """Return why a metric is nan on these labels; empty if it is defined."""
    if len(labels) == 0:
        return "no labelled scan"
    if name in NEEDS_SPREAD:
        return "all labels in the split are the same" if np.ptp(labels) == 0 else ""
    needed = classes_needed(name, len(classes))
    absent = [classes[index] for index in needed if not (labels == index).any()]
    return f"no scan of class {', '.join(absent)} in the split" if absent else ""


def classes_needed(name: str, n_classes: int) -> list[int]:
    """Return the classes without which a metric is not defined."""
    if name in ("sensitivity", "specificity"):
        return [int(name == "sensitivity")]
    return list(range(n_classes)) if name in NEEDS_EVERY_CLASS else []
