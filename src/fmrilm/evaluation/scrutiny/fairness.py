"""Is the score the same for everyone? Gaps between sexes, age bands, sites and levels of motion."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fmrilm.evaluation.questions import Question
from fmrilm.evaluation.scrutiny.confounds import MIN_SCANS, strata
from fmrilm.stats.classification import Metric
from fmrilm.stats.intervals import Design, interval, sample

ALPHA = 0.05  # of the warning, shared out among all gaps that are looked at
N_PERMUTATIONS = 1000
_CELLS = 4_000_000  # dealt scans held in memory at once


def fairness(question: Question, scores: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Return the largest difference between two groups of a kind, for several metrics.

    A gap is never negative, so its interval cannot include 0: what tells whether there is one is
    ``by_chance``, the gap below which 95% lie when people are put into groups at random, and
    ``p_value``, the share of such gaps that are as large. Few people can be put into groups in few
    ways: then all of them are tried, and ``smallest_p`` is one over their number.

    Parameters
    ----------
    question : Question
    scores : ndarray, shape (n, C)
    seed : int

    Returns
    -------
    dict
        Kind of group (sex, age, site, mean_fd) -> metric -> value, low, high, by_chance, p_value,
        smallest_p, groups (the score of each). Groups with fewer than eight scans are left out.
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
        f"(by chance up to {gap['by_chance']:.3f}, p = {gap['p_value']:.3f}, "
        f"smallest possible {gap['smallest_p']:.3f})"
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

    samples = sample({"gap": lambda weights: gaps(masks, weights)}, question.subjects)["gap"]
    design = Design.of(question.labels, question.subjects, question.task.candidates)
    estimate = interval(samples, design)
    if np.isnan(estimate.value):
        estimate = replace(estimate, reason="a group lacks a class")
    estimate = replace(estimate, low=max(estimate.low, 0.0))  # a gap is never negative
    _, first, owner = np.unique(question.subjects, return_index=True, return_inverse=True)
    chance: list[np.ndarray] = []
    rows = max(1, _CELLS // masks.size)
    every, blocks = _deals(masks[:, first], seed, rows)
    for deals in blocks:
        dealt = masks[:, first][:, deals][:, :, owner]  # (G, rows, n)
        chance.append(gaps(dealt, np.ones((dealt.shape[1], 1))))
    by_chance = np.concatenate(chance)
    by_chance = by_chance[~np.isnan(by_chance)]
    known = not np.isnan(estimate.value) and len(by_chance) > 0
    as_large = int((by_chance >= estimate.value - 1e-12).sum())
    more = 0 if every else 1  # the groups as they are are among all of them
    tried = more + len(by_chance)
    return {
        **estimate.to_dict(),
        "by_chance": round(float(np.quantile(by_chance, 0.95)), 6) if known else None,
        "p_value": (more + as_large) / tried if known else None,
        "smallest_p": 1 / tried if known else None,
    }


def _deals(of_person: np.ndarray, seed: int, rows: int) -> tuple[bool, Iterator[np.ndarray]]:
    """Return whether these are all ways to deal groups (G, people) out, and whose each person gets.

    The latter in blocks of up to ``rows`` ways, (rows, people): of 40,000 people all would take
    320 MB.

    A person whose scans are in several groups is dealt the group of the first one.
    """
    _, kind, counts = np.unique(of_person, axis=1, return_inverse=True, return_counts=True)
    ways = math.factorial(len(kind.ravel()))
    for count in counts:
        ways //= math.factorial(int(count))
    if ways <= N_PERMUTATIONS:
        example = np.array([np.flatnonzero(kind.ravel() == k)[0] for k in range(len(counts))])
        whole = example[np.array(list(_arrangements(counts.tolist())))]
        return True, (whole[start : start + rows] for start in range(0, len(whole), rows))
    return False, _drawn(of_person.shape[1], seed, rows)


def _drawn(people: int, seed: int, rows: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for start in range(0, N_PERMUTATIONS, rows):
        count = min(rows, N_PERMUTATIONS - start)
        yield np.stack([rng.permutation(people) for _ in range(count)])


def _arrangements(counts: list[int]) -> Iterator[tuple[int, ...]]:
    """Yield every order of ``counts[k]`` copies of each k."""
    if not any(counts):
        yield ()
    for kind, count in enumerate(counts):
        if count:
            rest = [left - (k == kind) for k, left in enumerate(counts)]
            yield from ((kind, *after) for after in _arrangements(rest))
