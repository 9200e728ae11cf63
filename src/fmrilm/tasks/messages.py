"""The text around a scan: cohort sentence, facts about the participant, question.

A prompt is plain text with :data:`SCAN_MARK` where the scan stands; the model wraps it in the chat
template of its language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmrilm.config import SCAN_MARK
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
    questions = task.questions
    parts = [SCAN_MARK]
    if cohort_sentence:
        parts.append(cohort_sentence)
    if facts:
        told = "; ".join(f"{name}: {value}" for name, value in facts.items())
        parts.append(f"Known about the participant: {told}.")
    parts.append(f"Question: {questions[variant % len(questions)]}")
    if task.candidates:
        parts.append(f"Choose one: {', '.join(task.candidates)}.")
    parts.append("Answer:")
    return "\n".join(parts)


def check_facts(task: Task, facts: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` if a fact gives the answer of ``task`` away."""
    hidden = {name.lower() for name in (*task.reveals, task.column)}
    for name in facts:
        if name.lower() in hidden:
            raise InputError(
                f"add_desc would tell the model {name!r}, which reveals the answer of task "
                f"{task.name!r}: take it out of add_desc"
            )
