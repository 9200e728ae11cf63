"""The text around a scan: cohort sentence, facts about the participant, question.

A prompt is plain text with :data:`SCAN_MARK` where the scan stands; the model wraps it in the chat
template of its language model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from fmrilm.config.schema import SCAN_MARK
from fmrilm.errors import InputError
from fmrilm.tasks.base import Task


def build_prompt(
    task: Task, variant: int = 0, cohort_sentence: str = "", facts: Mapping[str, Any] | None = None
) -> str:
    """Return the prompt that asks ``task`` about the scan at :data:`SCAN_MARK`.

    Parameters
    ----------
    task : Task
    variant : int
        Which wording; 0 is the base question, others count around the list.
    cohort_sentence : str
        Where the scan is from (``add_src_info``).
    facts : mapping
        Column name -> value of what the model may know about the participant (``add_desc``).

    Raises
    ------
    InputError
        If a fact gives the answer of the task away.
    """
    check_facts(task, facts or {})
    return "\n".join([*_context(cohort_sentence, facts or {}), ask(task, variant)])


def build_conversation(
    tasks: Sequence[Task],
    variants: Sequence[int],
    cohort_sentence: str = "",
    facts: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return what is said to the model in turn, the scan in the first turn: one task each.

    Raises
    ------
    InputError
        If a fact gives the answer of any task away.
    """
    for task in tasks:
        check_facts(task, facts or {})
    turns = [ask(task, variant) for task, variant in zip(tasks, variants, strict=True)]
    return ["\n".join([*_context(cohort_sentence, facts or {}), turns[0]]), *turns[1:]]


def ask(task: Task, variant: int = 0) -> str:
    """Return the question of a task with its possible answers, without the scan."""
    questions = task.questions
    parts = [f"Question: {questions[variant % len(questions)]}"]
    if task.values:
        parts.append("Answer with a number.")
    elif task.candidates:
        parts.append(f"Choose one: {', '.join(task.candidates)}.")
    return "\n".join([*parts, "Answer:"])


def build_report(tasks: Sequence[Task], class_indices: Sequence[int]) -> str:
    """Return the open-ended answer: one sentence per task.

    Read back with :meth:`Task.parse_statement`.
    """
    pairs = zip(tasks, class_indices, strict=True)
    return " ".join(task.statement(class_index) for task, class_index in pairs)


def _context(cohort_sentence: str, facts: Mapping[str, Any]) -> list[str]:
    parts = [SCAN_MARK]
    if cohort_sentence:
        parts.append(cohort_sentence)
    if facts:
        told = "; ".join(f"{name}: {word_fact(value)}" for name, value in facts.items())
        parts.append(f"Known about the participant: {told}.")
    return parts


def word_fact(value: Any) -> str:
    """Return a fact as it stands in every prompt, whatever type its column was read as.

    A column of whole numbers becomes one of floats as soon as one is missing, or as it stands
    beside a column of floats: a whole number is written without a decimal point.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
        number = float(str(value))  # of a float32 its own digits, not those of its nearest float64
        return str(int(number)) if number.is_integer() else repr(number)
    return str(value)


def check_facts(task: Task, facts: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` if a fact gives the answer of ``task`` away."""
    hidden = {name.lower() for name in (*task.reveals, task.column)}
    for name in facts:
        if name.lower() in hidden:
            raise InputError(
                f"add_desc would tell the model {name!r}, which reveals the answer of task "
                f"{task.name!r}: take it out of add_desc"
            )
