"""Tasks declared in YAML: question, answers and label coding of a target, without any code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from fmrilm.config.schema import Config, TaskConfig
from fmrilm.errors import InputError
from fmrilm.tasks.base import TASKS, Task

_FEW = 10  # distinct values up to which an undeclared label is taken to be a class
_BUILT_IN = frozenset(TASKS)
# Openings that make paraphrases of a question; {q} begins with a small letter after a comma.
_OPENINGS = (
    "Going by this scan, {q}",
    "Judging by the activity in this scan, {q}",
    "From the brain activity shown here, {q}",
    "Look at the scan and answer: {Q}",
    "Given this recording of brain activity, {q}",
    "Consider this fMRI scan. {Q}",
    "With this scan in view, {q}",
    "As far as this scan tells, {q}",
    "On the evidence of this scan alone, {q}",
    "Here is a scan. {Q}",
)
_KEPT = re.compile(r"^(?:I\b|[A-Z]{2,}|[A-Z]\w*\d)")  # an acronym keeps its capitals


def declare(config: Config, *, replace: bool = False) -> None:
    """Put the tasks that a configuration declares into the registry.

    Parameters
    ----------
    config : Config
    replace : bool
        Let a declaration take the place of an earlier one of the same name, as a new training
        does; otherwise two different ones are refused.

    Raises
    ------
    InputError
        If a declaration is incomplete, or its name is that of another task.
    """
    for name, about in config.tasks.items():
        task = task_of(name, about)
        if name in TASKS and TASKS[name] != task:
            if name in _BUILT_IN:
                raise InputError(
                    f"tasks.{name}: there is a task of this name with other answers or wording: "
                    f"declare it under another name with `column: {about.column or name}`"
                )
            if not replace:
                raise InputError(
                    f"tasks.{name} is declared differently in two runs: evaluate them one by one"
                )
        TASKS.replace(name, task)


def task_of(name: str, about: TaskConfig) -> Task:
    """Return the task that a declaration describes.

    Raises
    ------
    InputError
        If it has no question, or its answers do not go with its kind.
    """
    where = f"tasks.{name}"
    column = about.column or name
    if not about.question.strip():
        raise InputError(f"{where} has no question: add `question: ...`")
    reveals = tuple(dict.fromkeys([column, *about.reveals]))
    wording: dict[str, Any] = {
        "question": about.question.strip(),
        "paraphrases": list(about.paraphrases) or paraphrase(about.question.strip()),
    }
    subject = _in_words(name)
    if about.kind == "number":
        if about.answers or len(about.values) < 2:
            raise InputError(
                f"{where} asks for a number: add `range: [first, last, step]` and no answers"
            )
        if sorted(set(about.values)) != list(about.values):
            raise InputError(f"{where}.values are not ascending")
        wording["statement"] = f"The {subject} is {{value}}."
        return Task(
            name, column, kind="regression", reveals=reveals, values=tuple(about.values),
            wording=wording,
        )  # fmt: skip
    if len(about.answers) < 2 or about.values:
        raise InputError(f"{where} needs two answers or more: add `answers: {{0: ..., 1: ...}}`")
    answers = {label: answer.strip() for label, answer in about.answers.items()}
    lower = [answer.lower() for answer in answers.values()]
    if "" in lower or len(set(lower)) < len(lower):
        raise InputError(f"{where}: two answers are the same, or one is empty")
    unordered = "binary" if len(answers) == 2 else "multiclass"
    kind = "ordinal" if about.kind == "ordered" else unordered
    wording["statements"] = {label: f"The {subject} is {a}." for label, a in answers.items()}
    return Task(name, column, answers, kind, reveals, wording=wording)


def paraphrase(question: str) -> list[str]:
    """Return a question in other words: the same question after different openings.

    Examples
    --------
    >>> paraphrase("Does the person smoke?")[0]
    'Going by this scan, does the person smoke?'
    """
    small = question if _KEPT.match(question) else question[0].lower() + question[1:]
    return [opening.format(q=small, Q=question) for opening in _OPENINGS]


def guess(name: str, labels: pd.Series) -> TaskConfig:
    """Return a declaration for a target of which only the name is given.

    Its answers are its label values as they stand: what they mean is not known.

    Raises
    ------
    InputError
        If it has one value, or more than ten.
    """
    values = sorted(labels.dropna().unique(), key=lambda value: (str(type(value)), value))
    if not 2 <= len(values) <= _FEW:
        raise InputError(
            f"target {name!r} has {len(values)} different labels: declare its question and answers "
            f"in YAML, datasets.<cohort>.targets.{name}: {{question: ..., kind: classes | ordered "
            "| number}"
        )
    words = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values]
    question = f"What is the {_in_words(name)} of this person?"
    return TaskConfig(question, answers={word: word for word in words})


def undeclared(config: Config, cohort: str, table: pd.DataFrame) -> Mapping[str, TaskConfig]:
    """Return declarations of the targets of a cohort that have only a name, from its labels."""
    dataset = config.datasets.get(cohort)
    names = dataset.targets if dataset is not None else []
    unknown = [name for name in names if name not in TASKS and name not in config.tasks]
    return {name: guess(name, table[name]) for name in unknown if name in table}


def _in_words(name: str) -> str:
    return re.sub(r"[_\s]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).strip()
