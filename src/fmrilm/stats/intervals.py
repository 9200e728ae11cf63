"""95% intervals over subjects, and of paired differences, from leaving out whole people.

Scans of one person are not independent, so the error of a score is that of leaving whole people
out (the cluster jackknife), taken on a scale on which it is nearly normal (:mod:`~.scales`). The
interval is Student's t with Welch and Satterthwaite's degrees of freedom over people. What leaving
somebody out changes, less that person's leverage, is the person's influence, and the variance that
of cluster-robust regressions (CR1: Cameron and Miller 2015, https://doi.org/10.3368/jhr.50.2.317).
How often the intervals hold the truth: ``benchmarks/intervals.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from fmrilm.stats.classification import Metric, classes_needed, undefined_reason
from fmrilm.stats.scales import LOSS, Scale, scale_of

LEVEL = 0.95
MIN_SUBJECTS = 5
MIN_OF_CLASS = 3  # people who have scans of it
MAX_LEFT_OUT = 200  # groups of subjects that are left out in turn
Key = TypeVar("Key", bound=Hashable)
_CELLS = 4_000_000  # weights held in memory at once
_ANGLES = np.linspace(0, 2 * np.pi, 361)


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
    """A score on all scans, and with one group of subjects left out each."""

    score: float
    left_out: np.ndarray


Score = Callable[[np.ndarray], np.ndarray]  # weights (s, n) -> values (s,)


def sample(scores: Mapping[Key, Score], subjects: np.ndarray) -> dict[Key, Samples]:
    """Return the samples of several scores."""
    ones, left_out = np.ones((1, len(subjects))), left_out_weights(subjects)
    rows = max(1, _CELLS // max(len(subjects), 1))
    blocks = [left_out[start : start + rows] for start in range(0, len(left_out), rows)]
    return {
        key: Samples(float(score(ones)[0]), np.concatenate([score(block) for block in blocks]))
        for key, score in scores.items()
    }


def left_out_groups(subjects: np.ndarray) -> np.ndarray:
    """Return the group of each scan: that of its person, or one of 200 groups of people."""
    _, owner = np.unique(subjects, return_inverse=True)
    return np.asarray(owner % min(int(owner.max()) + 1, MAX_LEFT_OUT))


def left_out_weights(subjects: np.ndarray) -> np.ndarray:
    """Return weights (g, n) that leave out one subject each, or one of 200 groups of subjects."""
    group = left_out_groups(subjects)
    return (group[None, :] != np.arange(group.max() + 1)[:, None]).astype(float)


def subject_weights(subjects: np.ndarray, n_resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
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
) -> dict[str, dict[str, Samples]]:
    """Return ``{predictor: {metric: samples}}``, with the same people left out of every one."""

    def score(answer: Answers, metric: Metric) -> Score:
        repetitions = answer.repetitions()
        return lambda weights: np.mean([metric(labels, *pair, weights) for pair in repetitions], 0)

    samples = sample(
        {(n, m): score(a, f) for n, a in answers.items() for m, f in metrics.items()}, subjects
    )
    return {name: {metric: samples[name, metric] for metric in metrics} for name in answers}


@dataclass(frozen=True)
class Design:
    """Who has which scans: what turns changes of a score into its error.

    Attributes
    ----------
    n_subjects : int
    people : ndarray of int, shape (C,)
        How many people have scans of each class; empty for numbers.
    kept : ndarray, shape (g,)
        One minus the largest share of a class (of numbers: of all scans) that is left out.
    stratum : ndarray of int, shape (g,)
        Groups that hold the same classes share one.
    margin : float
        Half a scan as a share of all.
    pair : float
        One pair of scans of the rarest class and of another, as a share of all such pairs.
    """

    n_subjects: int
    people: np.ndarray
    kept: np.ndarray
    stratum: np.ndarray
    margin: float
    pair: float

    @classmethod
    def of(cls, labels: np.ndarray, subjects: np.ndarray, classes: list[str]) -> Design:
        """Return the design of scans of these people; labels that are no integers are numbers."""
        n_classes = len(classes) if np.issubdtype(np.asarray(labels).dtype, np.integer) else 0
        names, owner = np.unique(subjects, return_inverse=True)
        group, count = left_out_groups(subjects), len(labels)
        label = np.asarray(labels, dtype=int) if n_classes else np.zeros(count, dtype=int)
        held = np.zeros((group.max() + 1, max(n_classes, 1)))
        np.add.at(held, (group, label), 1)
        total = held.sum(axis=0)
        _, stratum = np.unique(held > 0, axis=0, return_inverse=True)
        people = np.array([len(np.unique(owner[label == c])) for c in range(n_classes)], dtype=int)
        pairs = total[total > 0].min() * (count - total[total > 0].min())
        return cls(
            len(names),
            people,
            1 - (held / np.maximum(total, 1)).max(axis=1),
            np.asarray(stratum).ravel(),
            0.5 / count,
            1 / max(pairs, 1),
        )

    def few(self, metric: str, classes: list[str]) -> str:
        """Return why there are too few people for an interval of a metric; empty if there are."""
        if self.n_subjects < MIN_SUBJECTS:
            return f"no interval: {self.n_subjects} subjects are too few"
        for index in classes_needed(metric, len(classes)):
            if self.people[index] < MIN_OF_CLASS:
                have = "subject has" if self.people[index] == 1 else "subjects have"
                return f"no interval: {self.people[index]} {have} scans of class {classes[index]}"
        return ""


@dataclass(frozen=True)
class _Spread:
    """A score on a scale, its standard error, t quantile, and what each group left out changes."""

    centre: float
    error: float
    quantile: float
    changes: np.ndarray

    @classmethod
    def of(cls, samples: Samples, design: Design, scale: Scale, margin: float) -> _Spread:
        values = np.append(samples.left_out, samples.score)
        *left_out, centre = scale.forward(scale.clip(values, margin))
        changes = design.kept * (np.array(left_out) - np.mean(left_out))
        changes[np.abs(changes) < 1e-12] = 0
        return cls(float(centre), *_error(changes, design), changes)


def _error(changes: np.ndarray, design: Design) -> tuple[float, float]:
    """Return the standard error and the t quantile (Welch-Satterthwaite over the strata)."""
    from scipy.stats import t

    parts = np.bincount(design.stratum, changes**2)
    variance = parts.sum() * len(changes) / (len(changes) - 1)
    if variance == 0:
        return 0.0, 0.0
    freedom = np.maximum(np.bincount(design.stratum) - 1, 1)
    return float(np.sqrt(variance)), float(
        t.ppf((1 + LEVEL) / 2, parts.sum() ** 2 / (parts**2 / freedom).sum())
    )


def _unskewed(quantiles: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Quantiles of a studentised mean of skewed values (Hall 1992, J. R. Stat. Soc. B 54, 221).

    A few people with large errors make a mean error skewed even on the log scale: without this,
    intervals lie too low (coverage of 91.5% with seven people, 7.9% of them below the truth).
    """
    from scipy.stats import skew

    a = float(skew(-changes, bias=False)) / np.sqrt(len(changes))
    if abs(a) < 1e-6:
        return quantiles
    return np.asarray(3 / a * (np.cbrt(1 + a * (quantiles - a / 6)) - 1))


def _margin(metric: str, design: Design) -> float:
    return design.pair if metric == "auc" else design.margin


def _is_extreme(samples: Samples, scale: Scale) -> bool:
    """Return whether a share is 0 or 1 whoever is left out: no error can be estimated."""
    known = np.append(samples.left_out, samples.score)
    return scale.relative and bool((known == samples.score).all()) and samples.score in (0.0, 1.0)


def interval(
    samples: Samples, design: Design, metric: str = "", classes: list[str] | None = None
) -> Estimate:
    """Return the estimate of a metric, or the score and why it has no interval.

    Where nobody's answers are wrong, the lower end is the one-sided bound of Clopper and Pearson
    (1934) for people, 0.05^(1/people): 0.78 for twelve, where an AUC of 1 from six people of each
    class and normal scores is that likely at a true AUC of 0.78. Nobody's right: the mirror image.
    """
    if np.isnan(samples.score):
        return Estimate(samples.score, reason="not defined on these scans")
    reason = design.few(metric, classes or [])
    if not reason and np.isnan(samples.left_out).any():
        reason = "no interval: not defined without some subject"
    if reason:
        return Estimate(samples.score, reason=reason)
    scale = scale_of(metric)
    if _is_extreme(samples, scale):
        needed = [int(design.people[c]) for c in classes_needed(metric, len(classes or []))]
        people = min(design.n_subjects, len(needed) * min(needed)) if needed else design.n_subjects
        least = float((1 - LEVEL) ** (1 / people))
        return Estimate(samples.score, *((least, 1.0) if samples.score else (0.0, 1 - least)))
    spread = _Spread.of(samples, design, scale, _margin(metric, design))
    if spread.error == 0:
        return Estimate(samples.score, samples.score, samples.score)
    ends = np.array([spread.quantile, -spread.quantile])
    if scale is LOSS:
        ends = _unskewed(ends, spread.changes)
    low, high = scale.back(spread.centre - spread.error * ends)
    return Estimate(samples.score, float(min(low, samples.score)), float(max(high, samples.score)))


def difference(
    first: Samples,
    second: Samples,
    design: Design,
    metric: str = "",
    classes: list[str] | None = None,
) -> Estimate:
    """Return the paired difference of two predictors' scores.

    Both scores lie in an ellipse around their values, on the scale of the metric, as wide as their
    errors and as tilted as leaving out the same people says. The interval is the range of their
    difference over the ellipse; on a plain scale that is the usual t interval of the difference.
    """
    gap = first.score - second.score
    alone = [interval(samples, design, metric, classes) for samples in (first, second)]
    unknown = [estimate.reason for estimate in alone if np.isnan(estimate.low)]
    if unknown:
        return Estimate(gap, reason=unknown[0])
    scale = scale_of(metric, paired=True)
    if any(_is_extreme(samples, scale) for samples in (first, second)):
        # One has no error that could go together with the other's: square and add.
        a, b = alone
        low = gap - np.hypot(a.value - a.low, b.high - b.value)
        return Estimate(gap, float(low), float(gap + np.hypot(a.high - a.value, b.value - b.low)))
    margin = _margin(metric, design)
    x, y = (_Spread.of(samples, design, scale, margin) for samples in (first, second))
    both = float(np.linalg.norm(x.changes) * np.linalg.norm(y.changes))
    tilt = float(np.clip(x.changes @ y.changes / both, -1, 1)) if both > 0 else 0.0
    # Differences have their own degrees of freedom: what is common to both drops out of them.
    _, quantile = _error(first.left_out - second.left_out, design)
    quantile = quantile or max(x.quantile, y.quantile)
    along = np.cos(_ANGLES)
    across = tilt * along + np.sqrt(1 - tilt**2) * np.sin(_ANGLES)
    gaps = scale.back(x.centre + quantile * x.error * along) - scale.back(
        y.centre + quantile * y.error * across
    )
    return Estimate(gap, float(min(gaps.min(), gap)), float(max(gaps.max(), gap)))


def estimates(
    samples: Mapping[str, Samples],
    labels: np.ndarray,
    subjects: np.ndarray,
    classes: list[str],
) -> dict[str, Estimate]:
    """Return the estimate of every metric of one predictor."""
    design = Design.of(labels, subjects, classes)
    return {
        name: _explained(interval(values, design, name, classes), name, labels, classes)
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
    design = Design.of(labels, subjects, classes)
    return {
        name: _explained(
            difference(values, reference[name], design, name, classes), name, labels, classes
        )
        for name, values in samples.items()
    }


def _explained(estimate: Estimate, metric: str, labels: np.ndarray, classes: list[str]) -> Estimate:
    """Return the estimate; where it is undefined, with the reason that lies in the labels."""
    reason = undefined_reason(metric, labels, classes) if np.isnan(estimate.value) else ""
    return replace(estimate, reason=reason) if reason else estimate
