"""The closer look at one task: calibration, confounds, fairness, wordings. It needs val scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fmrilm.config.schema import Config
from fmrilm.evaluation.questions import Question, ask, prompts_for, select
from fmrilm.evaluation.scoring import Scorer
from fmrilm.evaluation.scrutiny import confounds, fairness


def scrutinise(
    question: Question,
    scores: np.ndarray,
    config: Config,
    scorer: Scorer,
    head: bool = False,
    wordings: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return calibration, confounds, fairness and, if asked for, stability over wordings.

    Parameters
    ----------
    question : Question
    scores : ndarray, shape (n, C)
        The model's, for the question's scans.
    config : Config
    scorer : Scorer
    head : bool
        The model answers by its head.
    wordings : bool
        Ask every paraphrase of the question too: as many passes as there are paraphrases.
    say : callable

    Returns
    -------
    report : dict
    columns : dict
        What the calibration says of every scan, by column of ``predictions.csv``.
    """
    say(f"calibration of {question.cohort.name} · {question.task.name}")
    kind = question.kind
    val = select(question.cohort, question.task, "val")
    val_scores = scorer.scores(ask(val, prompts_for(val, config), head))
    about: dict[str, Any] = {
        "predictability": confounds.predictability(question),
        "strata": confounds.by_stratum(question, scores),
        "residualised": confounds.residualised(question, scores, val, val_scores),
    }
    about["warnings"] = confounds.warnings(about, _primary(question, scores), kind)
    gaps = fairness.fairness(question, scores)
    calibration, columns = kind.calibration(
        question.task,
        (val_scores, val.labels),
        (scores, question.labels),
        (val.subjects, question.subjects),
    )
    found = {
        "calibration": calibration,
        "confounds": about,
        "fairness": gaps,
        "warnings": [*about.pop("warnings"), *fairness.warnings(gaps, question)],
    }
    if wordings:
        say(f"wordings of {question.cohort.name} · {question.task.name}")
        found["wordings"] = wording_stability(question, scores, config, scorer, head)
    return found, columns


def _primary(question: Question, scores: np.ndarray) -> float:
    metric = question.kind.metrics(question.task)[question.kind.primary]
    [(given, predicted)] = question.kind.answers(scores).repetitions()
    return float(metric(question.labels, given, predicted, np.ones((1, len(given))))[0])


def wording_stability(
    question: Question, scores: np.ndarray, config: Config, scorer: Scorer, head: bool = False
) -> dict[str, Any]:
    """Return the primary score of every wording, and how many answers change with it.

    A number has changed where it is no longer the same when rounded.
    """
    [(_, base)] = question.kind.answers(scores).repetitions()
    asked = [
        ask(question, prompts_for(question, config, variant), head)
        for variant in range(len(question.task.questions))
    ]
    scorer.read(asked)
    rows: list[dict[str, Any]] = []
    for text, one in zip(question.task.questions, asked, strict=True):
        found = scorer.scores(one)
        value = _primary(question, found)
        [(_, predicted)] = question.kind.answers(found).repetitions()
        rows.append(
            {
                "question": text,
                "score": None if np.isnan(value) else round(value, 6),
                "changed": round(float((np.round(predicted) != np.round(base)).mean()), 4),
            }
        )
    return {"wordings": rows, "changed": max(row["changed"] for row in rows)}
