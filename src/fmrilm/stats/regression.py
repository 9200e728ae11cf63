"""Scores of numbers, and of classes that have an order, for many weightings of the scans at once.

Same signature as in :mod:`fmrilm.stats.classification`; ``predicted`` holds the predicted values. A
text in which no number could be read is NaN there: it is left out of the scores of numbers, never
taken for a number, and counted beside them (``free_text`` in ``metrics.json``).
``n`` scans, ``C`` classes, ``S`` weightings.
"""

from __future__ import annotations

from functools import wraps

import numpy as np

from fmrilm.stats.classification import UNPARSED, Metric, confusion

_FLAT = 1e-12  # share of the largest square below which a variance counts as none


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1)
    return np.where(total > 0, weights @ values / np.where(total > 0, total, 1), np.nan)


def _of_read(metric: Metric) -> Metric:
    """Return a score of numbers over the answers that could be read; nan if there are none."""

    @wraps(metric)
    def score(
        labels: np.ndarray, scores: np.ndarray, predicted: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        read = ~np.isnan(predicted)
        if not read.any():
            return np.full(len(weights), np.nan)
        return metric(labels[read], scores[read], predicted[read], weights[:, read])

    return score


@_of_read
def mae(
    labels: np.ndarray, scores: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the mean absolute error, in the units of the labels."""
    return _mean(np.abs(predicted - labels), weights)


@_of_read
def rmse(
    labels: np.ndarray, scores: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the root of the mean squared error, in the units of the labels."""
    return np.sqrt(_mean((predicted - labels) ** 2, weights))


@_of_read
def r2(
    labels: np.ndarray, scores: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the share of variance explained; negative where the mean label would do better.

    nan where all labels are the same.
    """
    centred = labels - labels.mean()
    spread = _mean(centred**2, weights) - _mean(centred, weights) ** 2
    known = spread > _FLAT * (labels**2).max()
    error = _mean((predicted - labels) ** 2, weights)
    return np.where(known, 1 - error / np.where(known, spread, 1), np.nan)


@_of_read
def pearson(
    labels: np.ndarray, scores: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return Pearson's correlation of label and predicted value.

    0 when every answer is the same, which tells nothing of the labels (as an AUC is then 0.5);
    nan where all labels are the same.
    """
    return _correlation(labels[None], np.asarray(predicted, dtype=float)[None], weights)


@_of_read
def spearman(
    labels: np.ndarray, scores: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the correlation of the ranks, ties sharing theirs; 0 and nan as :func:`pearson`."""
    return _correlation(_ranks(labels, weights), _ranks(predicted, weights), weights)


def ordinal_spearman(
    labels: np.ndarray, scores: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the rank correlation of the class and its expected position under the model."""
    return spearman(labels, scores, scores @ np.arange(scores.shape[1]), weights)


def quadratic_kappa(
    labels: np.ndarray, scores: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return Cohen's kappa with squared distances between classes; nan if a class has no scan.

    Cohen 1968, https://doi.org/10.1037/h0026256. An unparsed answer counts as the farthest class.
    """
    n_classes = scores.shape[1]
    position = np.arange(n_classes)
    farthest = np.where(labels > (n_classes - 1) / 2, 0, n_classes - 1)
    answered = np.where(predicted == UNPARSED, farthest, predicted).astype(int)
    table = confusion(labels, answered, weights, n_classes)[:, :, :n_classes]
    actual, given = table.sum(axis=2), table.sum(axis=1)
    distance = (position[:, None] - position[None, :]) ** 2
    observed = (table * distance).sum(axis=(1, 2)) * actual.sum(axis=1)
    expected = np.einsum("sa,sb,ab->s", actual, given, distance)
    score = 1 - observed / np.where(expected > 0, expected, 1)
    return np.where((actual > 0).all(axis=1), score, np.nan)


def is_flat(values: np.ndarray) -> bool:
    """Return whether values (n,) are all the same, up to the precision they are computed in."""
    return bool(np.var(values) <= _FLAT * np.max(np.square(values), initial=0.0))


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the middle rank of every value among the weighted ones, shape (S, n)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1])
    mass = np.add.reduceat(weights[:, order], starts, axis=1)  # (S, distinct values)
    middle = np.cumsum(mass, axis=1) - mass / 2
    place = np.empty(len(values), dtype=int)
    place[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    return middle[:, place]


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted correlation of ``x`` and ``y``, each (1 or S, n), for every weighting."""
    total = weights.sum(axis=1, keepdims=True)
    share = weights / np.where(total > 0, total, 1)
    flat_x, flat_y = (_FLAT * (v**2).max(axis=1) for v in (x, y))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    x = x - (share * x).sum(axis=1, keepdims=True)
    y = y - (share * y).sum(axis=1, keepdims=True)
    over_x, over_y = (share * x**2).sum(axis=1), (share * y**2).sum(axis=1)
    varies = (over_x > flat_x) & (over_y > flat_y)
    size = np.where(varies, np.sqrt(over_x * over_y), 1)
    value = np.clip((share * x * y).sum(axis=1) / size, -1, 1)
    return np.where(over_x > flat_x, np.where(varies, value, 0.0), np.nan)


VALUE_METRICS: dict[str, Metric] = {
    "r": pearson,
    "mae": mae,
    "rmse": rmse,
    "r2": r2,
    "spearman": spearman,
}
ORDINAL_METRICS: dict[str, Metric] = {
    "spearman": ordinal_spearman,
    "quadratic_kappa": quadratic_kappa,
}
