"""95% intervals from resampling subjects, and paired differences on the same resamples.

Scans of one person are not independent, so whole subjects are drawn with replacement (the cluster
bootstrap; Field and Welsh 2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fmrilm.evaluation.metrics import Metric, undefined_reason

LEVEL = 0.95
N_RESAMPLES = 2000
MIN_SUBJECTS = 5
MIN_DEFINED = 0.9  # share of resamples in which a score must be defined to give an interval
_CELLS = 4_000_000  # weights held in memory at once


@dataclass(frozen=True)
class Estimate:
    """A score with its interval; ``value`` is nan when undefined, and ``reason`` says why."""

    value: float
    low: float = float("nan")
    high: float = float("nan")
    reason: str = ""

    def to_dict(self) -> dict[str, float | str | None]:
        """Return what goes into JSON: nan becomes null, an empty reason is left out."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        found: dict[str, float | str | None] = {
            name: None if np.isnan(number) else round(float(number), 6)
            for name, number in numbers.items()
        }
        return {**found, "reason": self.reason} if self.reason else found

    @classmethod
    def from_dict(cls, values: Mapping[str, float | str | None]) -> Estimate:
        """Read what :meth:`to_dict` wrote."""
        value, low, high = (
            float("nan") if values.get(name) is None else float(values[name] or 0)
            for name in ("value", "low", "high")
        )
        return cls(value, low, high, str(values.get("reason", "")))


@dataclass(frozen=True)
class Answers:
    """What one predictor answered for ``n`` scans.

    Parameters
    ----------
    scores : ndarray, shape (n, C) or (K, n, C)
        Class probabilities; of a number its value, C = 1. With K repetitions (e.g. shuffles) a
        metric is the mean over them.
    predicted : ndarray, shape (n,) or (K, n), optional
        Classes, -1 being an unparsed answer, or values; None: the most probable class.
    """

    scores: np.ndarray
    predicted: np.ndarray | None = None

    def repetitions(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return K pairs of scores (n, C) and predicted classes or values (n,)."""
        scores = np.asarray(self.scores, dtype=float)
        predicted = scores.argmax(-1) if self.predicted is None else self.predicted
        if scores.ndim == 2:
            return [(scores, np.asarray(predicted))]
        return list(zip(scores, np.asarray(predicted), strict=True))


def subject_weights(
    subjects: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield blocks (s, n) of how often each scan is in a resample of subjects.

    Parameters
    ----------
    subjects : ndarray, shape (n,)
        Whose scan it is.
    n_resamples : int
        Rows over all blocks.
    seed : int
        The same seed gives the same resamples, which is what pairs two predictors.
    """
    _, owner = np.unique(subjects, return_inverse=True)
    count = int(owner.max()) + 1
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // max(len(subjects), 1))
    for start in range(0, n_resamples, block):
        rows = min(block, n_resamples - start)
        drawn = rng.integers(count, size=(rows, count))
        drawn += np.arange(rows)[:, None] * count
        counts = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield counts[:, owner].astype(float)


def score_samples(
    answers: Mapping[str, Answers],
    labels: np.ndarray,
    subjects: np.ndarray,
    metrics: Mapping[str, Metric],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, np.ndarray]]:
    """Return ``{predictor: {metric: values}}``; the first value is the score on all scans.

    The other ``n_resamples`` values are on resampled subjects, the same ones for every predictor.
    """
    blocks: dict[str, dict[str, list[np.ndarray]]] = {
        name: {metric: [] for metric in metrics} for name in answers
    }
    ones = np.ones((1, len(labels)))
    for weights in (ones, *subject_weights(subjects, n_resamples, seed)):
        for name, answer in answers.items():
            for metric, function in metrics.items():
                values = [
                    function(labels, scores, predicted, weights)
                    for scores, predicted in answer.repetitions()
                ]
                blocks[name][metric].append(np.mean(values, axis=0))
    return {
        name: {metric: np.concatenate(parts) for metric, parts in by_metric.items()}
        for name, by_metric in blocks.items()
    }


def interval(samples: np.ndarray, n_subjects: int, reason: str = "") -> Estimate:
    """Return the estimate from ``samples`` whose first value is the score on all scans.

    Percentile interval over the resamples in which the score is defined.
    """
    value, resampled = float(samples[0]), samples[1:]
    if np.isnan(value):
        return Estimate(value, reason=reason or "not defined on these scans")
    if n_subjects < MIN_SUBJECTS:
        return Estimate(value, reason=f"no interval: {n_subjects} subjects are too few")
    defined = resampled[~np.isnan(resampled)]
    if len(defined) < MIN_DEFINED * len(resampled):
        share = 1 - len(defined) / max(len(resampled), 1)
        return Estimate(value, reason=f"no interval: {share:.0%} of the resamples lack a class")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def estimates(
    samples: Mapping[str, np.ndarray],
    labels: np.ndarray,
    subjects: np.ndarray,
    classes: list[str],
) -> dict[str, Estimate]:
    """Return the estimate of every metric of one predictor."""
    count = len(np.unique(subjects))
    return {
        name: interval(values, count, undefined_reason(name, labels, classes))
        for name, values in samples.items()
    }


def differences(
    samples: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    labels: np.ndarray,
    subjects: np.ndarray,
    classes: list[str],
) -> dict[str, Estimate]:
    """Return the paired difference to ``reference`` of every metric, with its interval."""
    paired = {name: values - reference[name] for name, values in samples.items()}
    return estimates(paired, labels, subjects, classes)
