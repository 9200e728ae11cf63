"""Answers of several folds put together: of everybody at once, and of each person alone.

Before answers are pooled, each predictor's answers are centred within the fold: how one fold's
model leans says nothing of people, and a predictor that always says the same (whose constant
differs between folds) would otherwise score away from chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fmrilm.datasets.folds import Fold
from fmrilm.errors import InputError
from fmrilm.evaluation.answering import compare
from fmrilm.evaluation.options import EvaluationOptions
from fmrilm.evaluation.questions import NO_SITE, Question
from fmrilm.evaluation.results import TaskResult
from fmrilm.evaluation.runs import Run, open_cohorts
from fmrilm.evaluation.verdict import Prompt, verdict
from fmrilm.stats.classification import UNPARSED
from fmrilm.stats.intervals import Answers
from fmrilm.stats.kinds import Kind
from fmrilm.tasks import Task


@dataclass(frozen=True)
class Member:
    """One run's result on one task, and the fold whose people it was tested on."""

    run: Run
    result: TaskResult
    fold: Fold

    @property
    def seed(self) -> int:
        """Training seed of the run."""
        return self.run.config.train.seed


def _labels(result: TaskResult, task: Task) -> np.ndarray:
    labels = [result.style.label(task, value) for value in result.predictions["label"]]
    return np.array(labels)


def answers_of(result: TaskResult, name: str, task: Task) -> Answers:
    """Return the answers of one predictor of one run, in the order of its predictions."""
    kind, keys = result.style, ["subject_id", "session_id"]
    width = 1 if kind.is_number else len(task.candidates)
    columns = list(kind.columns(task, np.zeros((1, width))))
    table = result.predictions
    if name != "model":
        others = result.compared[result.compared["predictor"] == name]
        table = table[keys].merge(others, on=keys, how="left", validate="one_to_one")
    scores = table[columns].to_numpy(dtype=float)
    if name != "model":
        return kind.answers(scores)
    if kind.is_number:
        said = pd.to_numeric(table["predicted"], errors="coerce").to_numpy(dtype=float)
    else:
        places = {word: position for position, word in enumerate(task.candidates)}
        words = table["predicted"].astype(str)
        said = np.array([places.get(word, UNPARSED) for word in words])
    return kind.answers(scores, said)


def per_person(member: Member, answers: Answers, task: Task) -> pd.DataFrame:
    """Return the primary score within each tested person."""
    result = member.result
    labels, subjects = _labels(result, task), result.predictions["subject_id"].to_numpy(dtype=str)
    [(scores, said)] = answers.repetitions()
    people, counts = np.unique(subjects, return_counts=True)
    of_people = np.split(np.argsort(subjects, kind="stable"), np.cumsum(counts)[:-1])
    metric = result.style.primary_metric
    values = [
        float(metric(labels[own], scores[own], said[own], np.ones((1, len(own))))[0])
        for own in of_people
    ]
    return pd.DataFrame(
        {
            "seed": member.seed,
            "fold": member.fold.fold,
            "subject_id": people,
            "n_scans": counts,
            "score": values,
        }
    )


def pool(
    members: Sequence[Member], names: Sequence[str], task: Task, options: EvaluationOptions
) -> TaskResult:
    """Return the result on the people of all folds together, with differences and verdict.

    Parameters
    ----------
    members : sequence of Member
        One per fold.
    names : sequence of str
        Predictors that all of them have.
    task : Task
    options : EvaluationOptions
        How the answers are resampled.

    Raises
    ------
    InputError
        If a person is tested in two folds.
    """
    results = [member.result for member in members]
    first, kind = results[0], results[0].style
    labels = np.concatenate([_labels(result, task) for result in results])
    table = pd.concat([result.predictions for result in results], ignore_index=True)
    subjects = table["subject_id"].to_numpy(dtype=str)
    tested = pd.concat([result.predictions["subject_id"].drop_duplicates() for result in results])
    if tested.duplicated().any():
        twice = tested[tested.duplicated()].iloc[0]
        raise InputError(
            f"{first.cohort}: subject {twice} is tested in two folds: folds of one cohort test "
            "everybody once; make them with `fmrilm folds`"
        )
    sizes = [len(result.predictions) for result in results]
    fold = np.repeat(np.arange(len(results)), sizes)
    answers = {}
    for name in names:
        parts = [answers_of(result, name, task).repetitions()[0] for result in results]
        scores = np.concatenate([part[0] for part in parts])
        said = np.concatenate([part[1] for part in parts])
        answers[name] = _centre(scores, said, fold, kind)
    cohort = open_cohorts(members[0].run, [first.cohort])[0]
    sites = np.full(len(labels), NO_SITE)
    rows = np.arange(len(labels))
    missing = sum(result.n_missing for result in results)
    question = Question(cohort, task, first.split, rows, labels, subjects, sites, missing)
    predictors = compare(answers, question, options)
    return dataclasses.replace(
        first,
        n_scans=len(labels),
        n_subjects=question.n_subjects,
        n_missing=missing,
        class_counts=question.class_counts,
        labels=kind.describe_labels(task, labels),
        predictors=predictors,
        verdict=verdict(predictors, kind, _prompt(members[0].run)),
        free_text=None,
        scrutiny={},
        predictions=table,
        compared=pd.concat([result.compared for result in results], ignore_index=True),
    )


def _prompt(run: Run) -> Prompt:
    """Return what a run's model is given besides the tokens of a scan, by its configuration."""
    model, has_facts = run.config.model, bool(run.config.instruct.add_desc)
    if not model.lm.summary_tokens:
        return Prompt(has_facts)
    return Prompt(has_facts, "connectivity" if model.vq_model.roi_profile else "the series")


def _centre(scores: np.ndarray, said: np.ndarray, fold: np.ndarray, kind: Kind) -> Answers:
    """Return answers whose mean is the same in every fold, on the scale on which they add up.

    Of classes the log-probabilities are centred, and what was answered stays what it was.
    """
    values = scores if kind.is_number else np.log(np.clip(scores, 1e-9, 1.0))
    centred = values.astype(float).copy()
    for one in np.unique(fold):
        centred[fold == one] -= values[fold == one].mean(axis=0)
    centred = np.round(centred, 9)  # a constant is one constant
    centred = centred + values.mean(axis=0)
    if kind.is_number:
        return kind.answers(centred)
    powers = np.exp(centred - centred.max(axis=1, keepdims=True))
    return kind.answers(powers / powers.sum(axis=1, keepdims=True), said)
