"""What is asked of a scan: the question, the answers, the label column."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from fmrilm.errors import InputError
from fmrilm.registry import Registry

KINDS = ("binary", "multiclass", "ordinal", "regression", "description")


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
        ``binary``, ``multiclass``, ``ordinal``, ``regression`` (a number) or ``description`` (free
        text, no label).
    reveals : tuple of str
        Columns that give the answer away; telling them to the model is refused.
    values : tuple of float
        The numbers that can be answered in a regression task, ascending. The predicted value is
        their mean under the model's probabilities, so it is not bound to this grid.
    wording : mapping, optional
        ``question``, ``paraphrases``, and ``statement`` (number) or ``statements`` by class; None:
        those of ``prompts/<name>.json``.
    """

    name: str
    column: str
    answers: dict[str, str] = field(default_factory=dict)
    kind: str = "binary"
    reveals: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    wording: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"task {self.name}: kind {self.kind!r} is none of {KINDS}")
        if (self.kind == "regression") != bool(self.values):
            raise InputError(f"task {self.name}: values go with kind regression, and only with it")

    @property
    def classes(self) -> list[str]:
        """Label values, in the order of the answers."""
        return list(self.answers)

    @property
    def candidates(self) -> list[str]:
        """Answers, in the order of the classes; in a regression task the numbers as text."""
        if self.values:
            return [format(value, "g") for value in self.values]
        return list(self.answers.values())

    @property
    def questions(self) -> list[str]:
        """The question, then its paraphrases."""
        return [self._words["question"], *self._words["paraphrases"]]

    @property
    def _words(self) -> Mapping[str, Any]:
        return _load(self.name) if self.wording is None else self.wording

    def class_index(self, label: Any) -> int | None:
        """Return the position of a label among the candidates; None if it is missing.

        In a regression task that is the nearest of the values.

        Raises
        ------
        InputError
            If the label is none of the task's.
        """
        if is_missing(label):
            return None
        if self.values:
            return self._nearest(label)
        text = str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
        if text not in self.answers:
            raise InputError(
                f"task {self.name}: column {self.column} holds {text!r}, which is none of "
                f"{', '.join(self.classes)}: correct participants.tsv, or map the codes with "
                f"values: {{{self.column}: {{...}}}} in the cohort's YAML and prepare it again"
            )
        return self.classes.index(text)

    def _nearest(self, label: Any) -> int:
        try:
            number = float(label)
        except ValueError:
            number = math.nan
        if not self.values[0] - 1 <= number <= self.values[-1] + 1:
            wrong = f"outside {self.values[0]:g} to {self.values[-1]:g}"
            raise InputError(
                f"task {self.name}: column {self.column} holds {str(label)!r}, "
                f"{'no number' if math.isnan(number) else wrong}: correct participants.tsv, or "
                f"name the code for a missing value with missing: {{{self.column}: [...]}} in the "
                "cohort's YAML and prepare it again"
            )
        return min(range(len(self.values)), key=lambda i: abs(self.values[i] - number))

    def statement(self, class_index: int) -> str:
        """Return the sentence that says the answer, for open-ended reports."""
        if self.values:
            return self._words["statement"].format(value=self.candidates[class_index])
        return self._words["statements"][self.classes[class_index]]

    def parse_statement(self, text: str) -> int | None:
        """Return the class that a report states; None if it states none or several."""
        if self.values:
            before, after = self._words["statement"].split("{value}")
            pattern = re.escape(before) + r"(-?\d+(?:\.\d+)?)" + re.escape(after)
            numbers = [float(number) for number in re.findall(pattern, text)]
            inside = [n for n in numbers if self.values[0] <= n <= self.values[-1]]
            return self._nearest(inside[0]) if len(inside) == len(numbers) == 1 else None
        found = [i for i in range(len(self.classes)) if self.statement(i) in text]
        return found[0] if len(found) == 1 else None

    def parse(self, text: str) -> int | None:
        """Return the class that a generated text names; None if it names none or several.

        Never falls back on a class: what cannot be read is counted as unparsed.
        """
        words = text.lower().replace(".", " ").replace(",", " ").split()
        padded = f" {' '.join(words)} "
        found = [i for i, answer in enumerate(self.candidates) if f" {answer.lower()} " in padded]
        return found[0] if len(found) == 1 else None


TASKS: Registry[Task] = Registry("task")


@cache
def _load(name: str) -> dict[str, Any]:
    path = files("fmrilm.tasks") / "prompts" / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"task {name!r} has no prompt file prompts/{name}.json")
    return json.loads(path.read_text(encoding="utf-8"))


def is_missing(value: Any) -> bool:
    """Return whether a label or fact is absent (None or NaN)."""
    return value is None or (isinstance(value, float) and math.isnan(value))
