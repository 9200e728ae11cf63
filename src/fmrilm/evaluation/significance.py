"""Paired tests of one predictor against another, and of repeated splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fmrilm.evaluation.intervals import Estimate

N_PERMUTATIONS = 1000
_CELLS = 1_000_000  # scores held in memory at once


@dataclass(frozen=True)
class PairedTest:
    """A difference and how likely one as large is if there is none."""

    difference: float
    p_value: float  # two-sided
    method: str


def delong(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> PairedTest:
    """Return DeLong's test of two correlated AUCs on the same scans.

    DeLong, DeLong and Clarke-Pearson 1988, https://doi.org/10.2307/2531595. Scans are taken to be
    independent: with several scans per person use :func:`permutation_test`.

    Parameters
    ----------
    labels : ndarray of bool, shape (n,)
        True for the positive class.
    first, second : ndarray, shape (n,)
        Scores, higher means more positive.
    """
    from scipy.stats import norm

    positive = np.asarray(labels, dtype=bool)
    if not positive.any() or positive.all():
        return PairedTest(float("nan"), float("nan"), "DeLong: a class has no scan")
    if min(positive.sum(), (~positive).sum()) < 2:
        return PairedTest(float("nan"), float("nan"), "DeLong: a class has one scan")
    hits, alarms, areas = [], [], []
    for scores in (np.asarray(first, float), np.asarray(second, float)):
        above = scores[positive][:, None] - scores[~positive][None, :]
        wins = (above > 0) + 0.5 * (above == 0)  # (positives, negatives)
        hits.append(wins.mean(axis=1))
        alarms.append(wins.mean(axis=0))
        areas.append(wins.mean())
    covariance = np.cov(hits) / positive.sum() + np.cov(alarms) / (~positive).sum()
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    difference = float(areas[0] - areas[1])
    if variance <= 1e-15:
        return PairedTest(difference, 1.0 if difference == 0 else 0.0, "DeLong")
    return PairedTest(difference, float(2 * norm.sf(abs(difference) / np.sqrt(variance))), "DeLong")


def permutation_test(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    subjects: np.ndarray,
    n_permutations: int = 2000,
    seed: int = 0,
) -> PairedTest:
    """Return the test of two AUCs in which the predictors are exchanged for whole people.

    Scores are turned into ranks first, since two predictors need not share a scale.

    Parameters
    ----------
    labels : ndarray of bool, shape (n,); or of int where the scores are of several classes
        With several classes the AUC is the mean over one class against the rest.
    first, second : ndarray, shape (n,) or (n, C)
    subjects : ndarray, shape (n,)
    n_permutations : int
        The smallest possible p-value is one over this plus one.
    seed : int
    """
    from scipy.stats import rankdata

    several = first.ndim == 2
    classes = range(first.shape[1]) if several else [1]
    truth = np.stack([np.asarray(labels) == c for c in classes])  # (C, n)
    if not truth.any(axis=1).all() or truth.all(axis=1).any():
        return PairedTest(float("nan"), float("nan"), "permutation: a class has no scan")
    ranks = [
        rankdata(np.reshape(scores, (len(labels), -1)).T, axis=1) for scores in (first, second)
    ]

    def areas(drawn: np.ndarray) -> np.ndarray:
        """Return the AUC of scores (P, C, n), shape (P,)."""
        place = rankdata(drawn, axis=2)
        hits = truth.sum(axis=1)
        over = (place * truth).sum(axis=2) - hits * (hits + 1) / 2
        return (over / (hits * (~truth).sum(axis=1))).mean(axis=1)

    return _exchange(areas, ranks[0], ranks[1], subjects, n_permutations, seed)


def correlation_test(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    subjects: np.ndarray,
    n_permutations: int = 2000,
    seed: int = 0,
) -> PairedTest:
    """Return the test of two correlations with the labels, as :func:`permutation_test`.

    Predicted values (n,) are standardised first; ones that are all the same have correlation 0.
    """
    centred = labels - labels.mean()
    if not centred.any():
        return PairedTest(float("nan"), float("nan"), "permutation: all labels are the same")

    def standard(values: np.ndarray) -> np.ndarray:
        spread = values.std()
        flat = spread <= 1e-6 * np.abs(values).max()
        return np.zeros(len(values)) if flat else (values - values.mean()) / spread

    def correlations(drawn: np.ndarray) -> np.ndarray:
        x = drawn[:, 0] - drawn[:, 0].mean(axis=1, keepdims=True)
        size = np.sqrt((x**2).sum(axis=1) * (centred**2).sum())
        return np.where(size > 0, x @ centred / np.where(size > 0, size, 1), 0.0)

    values = [standard(np.asarray(one, dtype=float))[None] for one in (first, second)]
    return _exchange(correlations, values[0], values[1], subjects, n_permutations, seed)


def _exchange(
    score: Callable[[np.ndarray], np.ndarray],
    first: np.ndarray,
    second: np.ndarray,
    subjects: np.ndarray,
    n_permutations: int,
    seed: int,
) -> PairedTest:
    """Return the test of ``score`` (P, C, n) -> (P,) between two predictors (C, n)."""
    _, owner = np.unique(subjects, return_inverse=True)
    rng = np.random.default_rng(seed)
    observed = float(score(first[None])[0] - score(second[None])[0])
    as_large = 0
    block = max(1, _CELLS // first.size)
    for start in range(0, n_permutations, block):
        rows = min(block, n_permutations - start)
        swap = rng.integers(0, 2, (rows, owner.max() + 1)).astype(bool)[:, None, owner]
        drawn = score(np.where(swap, second, first)) - score(np.where(swap, first, second))
        as_large += int((np.abs(drawn) >= abs(observed) - 1e-12).sum())
    p_value = (1 + as_large) / (1 + n_permutations)
    return PairedTest(observed, p_value, "permutation over subjects")


def paired_test(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, subjects: np.ndarray
) -> PairedTest:
    """Return the test of the AUCs of two predictors' class probabilities (n, C).

    DeLong's where there are two classes and every person has one scan, else the permutation test.
    """
    if first.shape[1] > 2:
        return permutation_test(labels, first, second, subjects, N_PERMUTATIONS)
    positive, one, other = labels == 1, first[:, 1], second[:, 1]
    if len(np.unique(subjects)) == len(subjects):
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
