"""Paired tests of one predictor against another, and of repeated splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fmrilm.evaluation.intervals import Estimate
from fmrilm.evaluation.metrics import weighted_auc

N_PERMUTATIONS = 1000


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
    labels : ndarray of bool, shape (n,)
    first, second : ndarray, shape (n,)
    subjects : ndarray, shape (n,)
    n_permutations : int
        The smallest possible p-value is one over this plus one.
    seed : int
    """
    from scipy.stats import rankdata

    positive = np.asarray(labels, dtype=bool)
    if not positive.any() or positive.all():
        return PairedTest(float("nan"), float("nan"), "permutation: a class has no scan")
    a, b = (rankdata(scores) for scores in (first, second))
    _, owner = np.unique(subjects, return_inverse=True)
    rng = np.random.default_rng(seed)
    ones = np.ones((1, len(positive)))

    def gap(x: np.ndarray, y: np.ndarray) -> float:
        return float(weighted_auc(positive, x, ones)[0] - weighted_auc(positive, y, ones)[0])

    observed = gap(a, b)
    as_large = 0
    for _ in range(n_permutations):
        swap = rng.integers(0, 2, owner.max() + 1).astype(bool)[owner]
        drawn = gap(np.where(swap, b, a), np.where(swap, a, b))
        as_large += abs(drawn) >= abs(observed) - 1e-12
    p = (1 + as_large) / (1 + n_permutations)
    return PairedTest(observed, p, "permutation over subjects")


def paired_test(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, subjects: np.ndarray
) -> PairedTest:
    """Return DeLong's test where every person has one scan, else the permutation test."""
    if len(np.unique(subjects)) == len(subjects):
        return delong(labels, first, second)
    return permutation_test(labels, first, second, subjects, N_PERMUTATIONS)


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
