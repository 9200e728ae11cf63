"""95% intervals from resampling subjects, and paired differences on the same resamples.

Scans of one person are not independent, so whole subjects are drawn with replacement (the cluster
bootstrap; Field and Welsh 2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x). Intervals are
bias-corrected and accelerated (BCa; Efron 1987, https://doi.org/10.2307/2289144) and widened for
few subjects (Hesterberg 2015, https://doi.org/10.1080/00031305.2015.1089789). Of a correlation it
is a t interval of its Fisher z, with the standard error of leaving subjects out (jackknife), which
holds the truth more often. How often is measured by ``benchmarks/intervals.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from fmrilm.evaluation.metrics import Metric, undefined_reason

LEVEL = 0.95
N_RESAMPLES = 2000
MIN_SUBJECTS = 5
MIN_DEFINED = 0.9  # share of resamples in which a score must be defined to give an interval
MAX_LEFT_OUT = 200  # groups of subjects that are left out in turn
CORRELATIONS = ("r", "spearman")
Key = TypeVar("Key", bound=Hashable)
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


@dataclass(frozen=True)
class Samples:
    """A score on all scans, on resampled subjects, and with one group of subjects left out each.

    Differences are taken of each of them, which is what pairs two predictors.
    """

    score: float
    resampled: np.ndarray
    left_out: np.ndarray

    def __sub__(self, other: Samples) -> Samples:
        return Samples(
            self.score - other.score,
            self.resampled - other.resampled,
            self.left_out - other.left_out,
        )


Score = Callable[[np.ndarray], np.ndarray]  # weights (s, n) -> values (s,)


def sample(
    scores: Mapping[Key, Score], subjects: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> dict[Key, Samples]:
    """Return the samples of several scores, all on the same resamples of subjects."""
    resampled: dict[Key, list[np.ndarray]] = {key: [] for key in scores}
    for weights in subject_weights(subjects, n_resamples, seed):
        for key, score in scores.items():
            resampled[key].append(score(weights))
    ones, left_out = np.ones((1, len(subjects))), left_out_weights(subjects)
    return {
        key: Samples(float(score(ones)[0]), np.concatenate(resampled[key]), score(left_out))
        for key, score in scores.items()
    }


def left_out_weights(subjects: np.ndarray) -> np.ndarray:
    """Return weights (g, n) that leave out one subject each, or one of 200 groups of subjects."""
    _, owner = np.unique(subjects, return_inverse=True)
    group = owner % min(int(owner.max()) + 1, MAX_LEFT_OUT)
    return (group[None, :] != np.arange(group.max() + 1)[:, None]).astype(float)


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
) -> dict[str, dict[str, Samples]]:
    """Return ``{predictor: {metric: samples}}``, on the same resamples for every predictor."""

    def score(answer: Answers, metric: Metric) -> Score:
        repetitions = answer.repetitions()
        return lambda weights: np.mean([metric(labels, *one, weights) for one in repetitions], 0)

    found = sample(
        {(n, m): score(a, f) for n, a in answers.items() for m, f in metrics.items()},
        subjects,
        n_resamples,
        seed,
    )
    return {name: {metric: found[name, metric] for metric in metrics} for name in answers}


def interval(
    samples: Samples, n_subjects: int, reason: str = "", is_correlation: bool = False
) -> Estimate:
    """Return the estimate from samples: BCa over the resamples in which the score is defined.

    Of a correlation by :func:`_fisher`, unless it is 1 with or without some subject.
    """
    if np.isnan(samples.score):
        return Estimate(samples.score, reason=reason or "not defined on these scans")
    if n_subjects < MIN_SUBJECTS:
        return Estimate(samples.score, reason=f"no interval: {n_subjects} subjects are too few")
    defined = samples.resampled[~np.isnan(samples.resampled)]
    if len(defined) < MIN_DEFINED * len(samples.resampled):
        share = 1 - len(defined) / max(len(samples.resampled), 1)
        return Estimate(
            samples.score, reason=f"no interval: {share:.0%} of the resamples lack a class"
        )
    known = np.append(samples.left_out, samples.score)
    if is_correlation and (np.abs(known) < 1).all():
        return Estimate(samples.score, *_fisher(samples, n_subjects))
    low, high = np.quantile(defined, _tails(samples, defined, n_subjects))
    return Estimate(samples.score, float(low), float(high))


def _fisher(samples: Samples, n_subjects: int) -> tuple[float, float]:
    """Return the ends of the t interval of a correlation's Fisher z."""
    from scipy.stats import t

    z = np.arctanh(samples.left_out)
    error = np.sqrt((len(z) - 1) / len(z) * ((z - z.mean()) ** 2).sum())
    half = t.ppf((1 + LEVEL) / 2, n_subjects - 1) * error
    centre = np.arctanh(samples.score)
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def _tails(samples: Samples, defined: np.ndarray, n_subjects: int) -> np.ndarray:
    """Return which quantiles of the resamples are the ends of the interval."""
    from scipy.stats import norm, t

    # A t quantile and the small-sample factor of the variance, instead of 1.96.
    spread = t.ppf((1 + LEVEL) / 2, n_subjects - 1) * np.sqrt(n_subjects / (n_subjects - 1))
    below = (defined < samples.score).mean() + 0.5 * (defined == samples.score).mean()
    smallest = 1 / (len(defined) + 1)
    bias = norm.ppf(np.clip(below, smallest, 1 - smallest))
    left_out = samples.left_out[~np.isnan(samples.left_out)]
    gaps = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    size = (gaps**2).sum()
    acceleration = (gaps**3).sum() / (6 * size**1.5) if size > 0 else 0.0
    ends = bias + spread * np.array([-1, 1])
    return norm.cdf(bias + ends / np.maximum(1 - acceleration * ends, 0.1))


def estimates(
    samples: Mapping[str, Samples],
    labels: np.ndarray,
    subjects: np.ndarray,
    classes: list[str],
) -> dict[str, Estimate]:
    """Return the estimate of every metric of one predictor."""
    return _estimates(samples, labels, subjects, classes, CORRELATIONS)


def _estimates(
    samples: Mapping[str, Samples],
    labels: np.ndarray,
    subjects: np.ndarray,
    classes: list[str],
    correlations: Sequence[str] = (),
) -> dict[str, Estimate]:
    count = len(np.unique(subjects))
    return {
        name: interval(values, count, undefined_reason(name, labels, classes), name in correlations)
        for name, values in samples.items()
    }


def differences(
    samples: Mapping[str, Samples],
    reference: Mapping[str, Samples],
    labels: np.ndarray,
    subjects: np.ndarray,
    classes: list[str],
) -> dict[str, Estimate]:
    """Return the paired difference to ``reference`` of every metric, with its interval."""
    paired = {name: values - reference[name] for name, values in samples.items()}
    return _estimates(paired, labels, subjects, classes)
