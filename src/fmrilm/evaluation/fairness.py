"""Is the score the same for everyone? Gaps between sexes, age bands, sites and levels of motion."""

from __future__ import annotations

from typing import Any

import numpy as np

from fmrilm.evaluation.confounds import FEW, MIN_SCANS, strata
from fmrilm.evaluation.intervals import interval, sample
from fmrilm.evaluation.metrics import Metric
from fmrilm.evaluation.questions import Question

ALPHA = 0.05  # of the warning, shared out among all gaps that are looked at
N_PERMUTATIONS = 1000


def fairness(question: Question, scores: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Return the largest difference between two groups of a kind, for several metrics.

    A gap is never negative, so its interval cannot include 0: what tells whether there is one is
    ``by_chance``, the gap below which 95% lie when people are put into groups at random, and
    ``p_value``, the share of such gaps that are as large.

    Parameters
    ----------
    question : Question
    scores : ndarray, shape (n, C)
    seed : int

    Returns
    -------
    dict
        Kind of group (sex, age, site, mean_fd) -> metric -> value, low, high, by_chance, p_value,
        groups (the score of each). Groups with fewer than eight scans are left out.
    """
    metrics = question.kind.metrics(question.task)
    looked_at = {n: metrics[n] for n in question.kind.fairness if n in metrics}
    if "sensitivity" in looked_at:  # it and specificity are what the balanced accuracy is made of
        looked_at.pop("balanced_accuracy")
    found: dict[str, Any] = {}
    for name, groups in strata(question).items():
        sizes = {g: int((groups == g).sum()) for g in np.unique(groups)}
        scored = [group for group, size in sizes.items() if size >= MIN_SCANS]
        if len(scored) > 1:
            masks = np.stack([groups == group for group in scored]).astype(float)
            found[name] = {
                metric: {
                    **_gap(question, scores, function, masks, seed),
                    "groups": _by_group(question, scores, function, masks, scored),
                }
                for metric, function in looked_at.items()
            }
    return found


def warnings(report: dict[str, Any], question: Question) -> list[str]:
    """Return sentences on gaps that chance does not explain (Bonferroni over all gaps)."""
    gaps = [(name, metric, gap) for name, kind in report.items() for metric, gap in kind.items()]
    return [
        f"{question.kind.fairness[metric]} differs by {gap['value']:.3f} between groups of {name} "
        f"(by chance up to {gap['by_chance']:.3f})"
        for name, metric, gap in gaps
        if gap["p_value"] is not None and gap["p_value"] * len(gaps) < ALPHA
    ]


def _scores_by_group(
    question: Question, scores: np.ndarray, metric: Metric, masks: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the metric in every group for weightings (S, n); masks (G, n) or (G, S, n)."""
    [(given, predicted)] = question.kind.answers(scores).repetitions()
    return np.stack([metric(question.labels, given, predicted, weights * mask) for mask in masks])


def _by_group(
    question: Question, scores: np.ndarray, metric: Metric, masks: np.ndarray, names: list[str]
) -> dict[str, float | None]:
    ones = np.ones((1, len(question.labels)))
    values = _scores_by_group(question, scores, metric, masks, ones)[:, 0]
    return {
        str(name): None if np.isnan(value) else round(float(value), 6)
        for name, value in zip(names, values, strict=True)
    }


def _gap(
    question: Question, scores: np.ndarray, metric: Metric, masks: np.ndarray, seed: int
) -> dict[str, Any]:
    def gaps(masks: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.ptp(_scores_by_group(question, scores, metric, masks, weights), axis=0)

    score = {"gap": lambda weights: gaps(masks, weights)}
    samples = sample(score, question.subjects, FEW, seed)
    estimate = interval(samples["gap"], question.n_subjects, "a group lacks a class")
    by_chance = gaps(_shuffled(masks, question.subjects, seed), np.ones((N_PERMUTATIONS, 1)))
    by_chance = by_chance[~np.isnan(by_chance)]
    known = not np.isnan(estimate.value) and len(by_chance) > 0
    as_large = int((by_chance >= estimate.value - 1e-12).sum())
    return {
        **estimate.to_dict(),
        "by_chance": round(float(np.quantile(by_chance, 0.95)), 6) if known else None,
        "p_value": (1 + as_large) / (1 + len(by_chance)) if known else None,
    }


def _shuffled(masks: np.ndarray, subjects: np.ndarray, seed: int) -> np.ndarray:
    """Return the groups (G, n) dealt out to people anew, shape (G, N_PERMUTATIONS, n).

    A person whose scans are in several groups is dealt the group of the first one.
    """
    _, first, owner = np.unique(subjects, return_index=True, return_inverse=True)
    rng = np.random.default_rng(seed)
    of_person = masks[:, first]  # (G, people)
    order = np.stack([rng.permutation(len(first)) for _ in range(N_PERMUTATIONS)])
    return of_person[:, order][:, :, owner]
