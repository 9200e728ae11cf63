"""Paired tests of one predictor against another, and of repeated splits.

People are what is exchanged: n of them allow 2^n exchanges, hence no two-sided p below 2/2^n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import rankdata

from fmrilm.stats.intervals import Estimate

N_PERMUTATIONS = 1000
MAX_ENUMERATED = 14  # people of whom every exchange is tried: 2^13 of them, the others mirror these
# Scans of each class from which DeLong's normal approximation is used. With 10 of them its test of
# two equal predictors says p < 0.05 in 3.9% (AUC 0.79), 0.8% (0.96), 0.1% (0.99) of simulated sets,
# with 20 in 4.7, 2.3 and 0.6%; and of few people it gives p-values that no exchange of them could.
MIN_DELONG = 20
_CELLS = 1_000_000  # scores held in memory at once


@dataclass(frozen=True)
class PairedTest:
    """A difference and how likely one as large is if there is none."""

    difference: float
    p_value: float  # two-sided
    method: str
    smallest_p: float = 0.0  # that the number of people, or of exchanges tried, allows


def delong(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> PairedTest:
    """Return DeLong's test of two correlated AUCs on the same scans.

    DeLong, DeLong and Clarke-Pearson 1988, https://doi.org/10.2307/2531595; from ranks, as Sun and
    Xu 2014, https://doi.org/10.1109/LSP.2014.2337313. Scans are taken to be independent: with
    several scans per person use :func:`permutation_test`.

    Parameters
    ----------
    labels : ndarray of bool, shape (n,)
        True for the positive class.
    first, second : ndarray, shape (n,)
        Scores, higher means more positive.
    """
    from scipy.stats import norm

    positive = np.asarray(labels, dtype=bool)
    rarest = min(int(positive.sum()), int((~positive).sum()))
    if rarest < 2:
        count = "one scan" if rarest else "no scan"
        return PairedTest(float("nan"), float("nan"), f"DeLong: a class has {count}")
    hits, alarms = structural_components(positive, np.stack([first, second]).astype(float))
    covariance = np.cov(hits) / positive.sum() + np.cov(alarms) / (~positive).sum()
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    difference = float(hits[0].mean() - hits[1].mean())
    if variance <= 1e-15:
        same = abs(difference) <= 1e-12
        return PairedTest(0.0 if same else difference, 1.0 if same else 0.0, "DeLong")
    return PairedTest(difference, float(2 * norm.sf(abs(difference) / np.sqrt(variance))), "DeLong")


def structural_components(
    positive: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of negatives each positive beats, and of positives each negative loses to.

    Parameters
    ----------
    positive : ndarray of bool, shape (n,)
    scores : ndarray, shape (K, n)

    Returns
    -------
    hits, alarms : ndarray, shapes (K, positives) and (K, negatives)
        The mean of either is the AUC.
    """
    place = rankdata(scores, axis=1)
    up, down = scores[:, positive], scores[:, ~positive]
    hits = (place[:, positive] - rankdata(up, axis=1)) / down.shape[1]
    return hits, 1 - (place[:, ~positive] - rankdata(down, axis=1)) / up.shape[1]


@dataclass(frozen=True)
class Statistic:
    """What two predictors are compared by.

    Attributes
    ----------
    lacks : callable
        Labels -> why it is not defined on them; empty if it is.
    common : callable
        One predictor's scores (n,) or (n, C) -> (C, n), on a scale that two of them share.
    score : callable
        Labels (n,), and scores (P, C, n) on that scale -> (P,).
    """

    lacks: Callable[[np.ndarray], str]
    common: Callable[[np.ndarray], np.ndarray]
    score: Callable[[np.ndarray, np.ndarray], np.ndarray]


def _lacks_class(labels: np.ndarray) -> str:
    return "a class has no scan" if len(np.unique(labels)) < 2 else ""


def _ranks(scores: np.ndarray) -> np.ndarray:
    return np.asarray(rankdata(scores.reshape(len(scores), -1).T, axis=1))


def _areas(labels: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the AUC, of several classes the mean over one class against the rest."""
    classes = range(drawn.shape[1]) if drawn.shape[1] > 1 else [1]
    truth = np.stack([labels == c for c in classes])  # (C, n)
    hits = truth.sum(axis=1)
    over = (rankdata(drawn, axis=2) * truth).sum(axis=2) - hits * (hits + 1) / 2
    pairs = hits * (~truth).sum(axis=1)
    return np.asarray(np.where(pairs > 0, over / np.maximum(pairs, 1), np.nan).mean(axis=1))


def _all_same(labels: np.ndarray) -> str:
    return "" if np.ptp(labels) > 0 else "all labels are the same"


def _standardised(values: np.ndarray) -> np.ndarray:
    spread = values.std()
    if spread <= 1e-6 * np.abs(values).max():  # they say nothing: a correlation of 0
        return np.zeros((1, len(values)))
    return ((values - values.mean()) / spread)[None]


def _correlations(labels: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    centred = labels - labels.mean()
    x = drawn[:, 0] - drawn[:, 0].mean(axis=1, keepdims=True)
    size = np.sqrt((x**2).sum(axis=1) * (centred**2).sum())
    return np.where(size > 0, x @ centred / np.where(size > 0, size, 1), 0.0)


AUC = Statistic(_lacks_class, _ranks, _areas)
CORRELATION = Statistic(_all_same, _standardised, _correlations)


def permutation_test(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    subjects: np.ndarray,
    n_permutations: int = 2000,
    seed: int = 0,
    statistic: Statistic = AUC,
) -> PairedTest:
    """Return the test in which two predictors are exchanged for whole people.

    Every exchange is tried where there are at most 14 people.

    Parameters
    ----------
    labels : ndarray of bool, shape (n,); of int where the scores are of several classes
    first, second : ndarray, shape (n,) or (n, C)
    subjects : ndarray, shape (n,)
    n_permutations : int
        Of more people; the smallest possible p-value is then one over this plus one.
    seed : int
    statistic : Statistic
    """
    lacks = statistic.lacks(labels)
    if lacks:
        return PairedTest(float("nan"), float("nan"), f"permutation: {lacks}")
    one, other = (statistic.common(np.asarray(scores, dtype=float)) for scores in (first, second))
    observed = statistic.score(labels, np.stack([one, other]))
    difference = float(observed[0] - observed[1])
    if np.isnan(difference):
        return PairedTest(float("nan"), float("nan"), "permutation: a class has no scan")
    _, owner = np.unique(subjects, return_inverse=True)
    people = int(owner.max()) + 1
    as_large = tried = 0
    for swap in _exchanges(people, n_permutations, seed, max(1, _CELLS // one.size)):
        swapped = swap[:, None, owner]
        orders = ((other, one), (one, other))
        drawn = [statistic.score(labels, np.where(swapped, *pair)) for pair in orders]
        as_large += int((np.abs(drawn[0] - drawn[1]) >= abs(difference) - 1e-12).sum())
        tried += len(swap)
    if people <= MAX_ENUMERATED:
        method = f"permutation: all exchanges of {people} subjects"
        return PairedTest(difference, as_large / tried, method, 1 / tried)
    p_value = (1 + as_large) / (1 + tried)
    return PairedTest(difference, p_value, "permutation over subjects", 1 / (1 + tried))


correlation_test = partial(permutation_test, statistic=CORRELATION)


def _exchanges(people: int, count: int, seed: int, rows: int) -> Iterator[np.ndarray]:
    """Yield blocks (P, people) of who is exchanged: all where people are few, else ``count``.

    Exchanging the others instead turns the sign of the difference, which a two-sided test does not
    see: of all exchanges those suffice in which the last person stays.
    """
    if people <= MAX_ENUMERATED:
        number = np.arange(2 ** (people - 1))
        every = (number[:, None] >> np.arange(people)) & 1 == 1
        yield from (every[start : start + rows] for start in range(0, len(every), rows))
        return
    rng = np.random.default_rng(seed)
    for start in range(0, count, rows):
        yield rng.integers(0, 2, (min(rows, count - start), people)).astype(bool)


def paired_test(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, subjects: np.ndarray
) -> PairedTest:
    """Return the test of the AUCs of two predictors' class probabilities (n, C).

    DeLong's where there are two classes, every person has one scan and each class 20 of them, else
    the permutation test.
    """
    if first.shape[1] > 2:
        return permutation_test(labels, first, second, subjects, N_PERMUTATIONS)
    positive, one, other = labels == 1, first[:, 1], second[:, 1]
    rarest = min(int(positive.sum()), int((~positive).sum()))
    if rarest >= MIN_DELONG and len(np.unique(subjects)) == len(subjects):
        return delong(positive, one, other)
    return permutation_test(positive, one, other, subjects, N_PERMUTATIONS)


def nadeau_bengio(scores: np.ndarray, n_train: int, n_test: int) -> Estimate:
    """Return the mean over repeated splits with a corrected 95% interval.

    Splits share data, so the naive variance over them is too small; Nadeau and Bengio 2003,
    https://doi.org/10.1023/A:1024068626366, add the ratio of test to training size.

    Parameters
    ----------
    scores : ndarray, shape (n_splits,)
        A score, or the difference of two, per split.
    n_train, n_test : int
        Subjects per split.
    """
    from scipy.stats import t

    known = np.asarray(scores, dtype=float)
    known = known[~np.isnan(known)]
    if len(known) == 0:
        return Estimate(float("nan"), reason="not defined in any split")
    mean = float(known.mean())
    if len(known) < 2:
        return Estimate(mean, reason="no interval: one split")
    spread = np.sqrt((1 / len(known) + n_test / n_train) * known.var(ddof=1))
    half = float(t.ppf(0.975, len(known) - 1) * spread)
    return Estimate(mean, mean - half, mean + half)


def over_seeds(scores: np.ndarray) -> Estimate:
    """Return the mean over training seeds with a t interval; the test subjects are fixed."""
    return nadeau_bengio(scores, 1, 0)
