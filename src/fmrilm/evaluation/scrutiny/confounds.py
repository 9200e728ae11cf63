"""Could site, motion, age or sex explain the score?"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from fmrilm.evaluation.baselines.baselines import fit_one
from fmrilm.evaluation.baselines.covariates import COVARIATES, design, known_covariates
from fmrilm.evaluation.questions import Question, select
from fmrilm.stats.intervals import estimates, score_samples
from fmrilm.stats.kinds import Kind
from fmrilm.tables.columns import as_words, kind_of

MIN_SCANS = 8  # of a stratum, to be scored
AGE_BANDS = 3


def _estimate(question: Question, scores: np.ndarray, keep: np.ndarray) -> dict[str, Any]:
    """Return the primary score of some of the scans."""
    kind, task = question.kind, question.task
    labels, subjects = question.labels[keep], question.subjects[keep]
    metrics = {kind.primary: kind.metrics(task)[kind.primary]}
    samples = score_samples({"model": kind.answers(scores[keep])}, labels, subjects, metrics)
    found = estimates(samples["model"], labels, subjects, task.candidates)[kind.primary]
    return {"n_scans": int(keep.sum()), **found.to_dict()}


def predictability(question: Question) -> dict[str, Any]:
    """Return how well each covariate alone predicts the label (fitted on train): AUC, or r.

    What can be predicted from motion or site alone, a model may have read off motion or site.
    """
    train = select(question.cohort, question.task, "train")
    val = select(question.cohort, question.task, "val")
    everyone = np.ones(len(question.rows), dtype=bool)
    found = {}
    for name in known_covariates(question):
        inputs = [design(part, [name], train.rows) for part in (train, val, question)]
        labels, n_classes = (train.labels, val.labels), len(question.task.classes) or None
        people = (train.subjects, val.subjects)
        scores = fit_one(question.kind.plain, inputs, labels, n_classes, people)
        found[name] = _estimate(question, scores, everyone)
    return found


def strata(question: Question) -> dict[str, np.ndarray]:
    """Return the stratum of every scan by each covariate: its value, or a band of numbers."""
    table = question.cohort.table.iloc[question.rows]
    found = {}
    for name in known_covariates(question):
        values = table[name]
        if kind_of(question.cohort.table[name]) != "number":
            found[name] = as_words(values).to_numpy(dtype=str)
            continue
        edges = np.unique(np.nanquantile(values, np.linspace(0, 1, AGE_BANDS + 1)))
        if len(edges) < 3:
            continue
        band = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        labels = [f"{a:.3g} to {b:.3g}" for a, b in pairwise(edges)]
        words = np.array([labels[b] for b in band])
        found[name] = np.where(values.isna(), "missing", words)
    return found


def by_stratum(question: Question, scores: np.ndarray) -> dict[str, Any]:
    """Return the primary score within every stratum; ``None`` stands for no value.

    Strata with fewer than eight scans are counted, not scored.
    """
    found: dict[str, Any] = {}
    for name, groups in strata(question).items():
        found[name] = {"groups": {}}
        for group in np.unique(groups):
            keep = groups == group
            about = {"n_scans": int(keep.sum()), "reason": "too few scans"}
            if keep.sum() >= MIN_SCANS:
                about = _estimate(question, scores, keep)
            found[name]["groups"][str(group)] = about
    return found


def residualised(
    question: Question, scores: np.ndarray, val: Question, val_scores: np.ndarray
) -> dict[str, Any]:
    """Return the primary score of what is left of the answers when covariates are regressed out.

    The regression of the log-odds of each class (or of the value) on the covariates is fitted on
    the validation scans.
    """
    names = known_covariates(question)
    if not names:
        return {"reason": "the cohort has none of: " + ", ".join(COVARIATES)}
    known = select(question.cohort, question.task, "train").rows
    inputs, val_inputs = (design(part, names, known) for part in (question, val))
    centre = np.nanmean(val_inputs, axis=0)
    inputs, val_inputs = (
        np.nan_to_num(np.where(np.isnan(x), centre, x) - centre) for x in (inputs, val_inputs)
    )
    if len(val.rows) <= val_inputs.shape[1] + 2:
        return {"reason": f"{len(val.rows)} validation scans are too few for the regression"}
    scores, val_scores = (question.kind.linked(found) for found in (scores, val_scores))
    one = np.ones((len(val_inputs), 1))
    weights, *_ = np.linalg.lstsq(np.hstack([val_inputs, one]), val_scores, rcond=None)
    left = scores - np.hstack([inputs, np.ones((len(inputs), 1))]) @ weights
    everyone = np.ones(len(question.rows), dtype=bool)
    return {"covariates": names, **_estimate(question, left, everyone)}


def warnings(report: dict[str, Any], score: float, kind: Kind) -> list[str]:
    """Return sentences on covariates that predict the label nearly as well as the model does."""
    found = []
    for name, estimate in report["predictability"].items():
        value = estimate.get("value")
        if value is None or math.isnan(score):
            continue
        clear = (estimate.get("low") or 0) > kind.chance
        if clear and value >= score - 0.05:
            found.append(
                f"{name} alone predicts the label with {kind.primary_title} {value:.3f}, the model "
                f"{score:.3f}: "
                "the score may rest on it"
            )
    return found
