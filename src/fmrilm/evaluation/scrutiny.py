"""The closer look at one task: calibration, confounds, wordings. All of it needs the val scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fmrilm.config import Config
from fmrilm.evaluation import confounds
from fmrilm.evaluation.calibration import calibration_report
from fmrilm.evaluation.metrics import auc
from fmrilm.evaluation.questions import Question, prompts_for, select
from fmrilm.evaluation.scoring import Asked, Scorer


def scrutinise(
    question: Question,
    probabilities: np.ndarray,
    config: Config,
    scorer: Scorer,
    wordings: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Return calibration, confounds and, if asked for, stability over wordings.

    Parameters
    ----------
    question : Question
    probabilities : ndarray, shape (n, C)
        The model's, for the question's scans.
    config : Config
    scorer : Scorer
    wordings : bool
        Ask every paraphrase of the question too: as many passes as there are paraphrases.
    say : callable
    """
    say(f"calibration of {question.cohort.name} · {question.task.name}")
    val = select(question.cohort, question.task, "val")
    prompts = prompts_for(val, config)
    val_scores = scorer.probabilities(val.rows, prompts, question.task.candidates)
    ones = np.ones((1, len(question.labels)))
    score = float(auc(question.labels, probabilities, probabilities.argmax(1), ones)[0])
    about: dict[str, Any] = {
        "predictability": confounds.predictability(question),
        "strata": confounds.by_stratum(question, probabilities),
        "residualised": confounds.residualised(question, probabilities, val, val_scores),
    }
    about["warnings"] = confounds.warnings(about, score)
    found = {
        "calibration": calibration_report(
            (val_scores, val.labels), (probabilities, question.labels)
        ),
        "confounds": about,
    }
    if wordings:
        say(f"wordings of {question.cohort.name} · {question.task.name}")
        found["wordings"] = wording_stability(question, probabilities, config, scorer)
    return found


def wording_stability(
    question: Question, probabilities: np.ndarray, config: Config, scorer: Scorer
) -> dict[str, Any]:
    """Return the AUC of every wording of the question, and how many answers change with it."""
    task = question.task
    ones = np.ones((1, len(question.labels)))
    base = probabilities.argmax(axis=1)
    rows: list[dict[str, Any]] = []
    asked = [prompts_for(question, config, variant) for variant in range(len(task.questions))]
    answers = tuple(task.candidates)
    scorer.read([Asked(question.rows, prompts, answers) for prompts in asked])
    for variant, text in enumerate(task.questions):
        scores = probabilities
        if variant:
            scores = scorer.probabilities(question.rows, asked[variant], task.candidates)
        value = float(auc(question.labels, scores, scores.argmax(1), ones)[0])
        rows.append(
            {
                "question": text,
                "auc": None if np.isnan(value) else round(value, 6),
                "changed": round(float((scores.argmax(axis=1) != base).mean()), 4),
            }
        )
    return {"wordings": rows, "changed": max(row["changed"] for row in rows)}
