"""What is asked of a scan: the question, the answers, the label column."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from fmrilm.registry import Registry

KINDS = ("binary", "multiclass", "ordinal", "description")


@dataclass(frozen=True)
class Task:
    """One question about a scan.

    Parameters
    ----------
    name : str
        Key in the registry, and the name under which results are written.
    column : str
        Label column of ``participants.tsv`` or ``samples.tsv``.
    answers : dict of str to str
        Label value (as text) -> answer. In a binary task the second one is the positive class; in
        an ordinal task they are in ascending order.
    kind : str
        ``binary``, ``multiclass``, ``ordinal`` or ``description`` (free text, no label).
    reveals : tuple of str
        Columns that give the answer away; telling them to the model is refused.
    """

    name: str
    column: str
    answers: dict[str, str] = field(default_factory=dict)
    kind: str = "binary"
    reveals: tuple[str, ...] = ()

    @property
    def classes(self) -> list[str]:
        """Label values, in the order of the answers."""
        return list(self.answers)

    @property
    def candidates(self) -> list[str]:
        """Answers, in the order of the classes."""
        return list(self.answers.values())

    @property
    def questions(self) -> list[str]:
        """The question, then its paraphrases, from ``prompts/<name>.json``."""
        return load_questions(self.name)

    def class_index(self, label: Any) -> int | None:
        """Return the position of a label among the classes; None if it is missing.

        Raises
        ------
        ValueError
            If the label is none of the task's.
        """
        if label is None or (isinstance(label, float) and math.isnan(label)):
            return None
        text = str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
        if text not in self.answers:
            raise ValueError(f"task {self.name}: label {text!r} is none of {self.classes}")
        return self.classes.index(text)

    def parse(self, text: str) -> int | None:
        """Return the class that a generated text names; None if it names none or several.

        Never falls back on a class: what cannot be read is counted as unparsed.
        """
        words = text.lower().replace(".", " ").replace(",", " ").split()
        padded = f" {' '.join(words)} "
        found = [i for i, answer in enumerate(self.candidates) if f" {answer.lower()} " in padded]
        return found[0] if len(found) == 1 else None


TASKS: Registry[Task] = Registry("task")


def load_questions(name: str) -> list[str]:
    """Return the wordings of a task, the base question first.

    Raises
    ------
    FileNotFoundError
        If the task has no prompt file.
    """
    path = files("fmrilm.tasks") / "prompts" / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"task {name!r} has no prompt file prompts/{name}.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    return [content["question"], *content["paraphrases"]]
