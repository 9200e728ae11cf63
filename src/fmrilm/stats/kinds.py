"""What an answer is, and how it is scored: one of several classes, or a number.

Whatever differs between the two stands here; the rest of the evaluation is the same for both.
``n`` scans, ``C`` classes, ``K`` repetitions.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fmrilm.errors import InputError
from fmrilm.stats.calibration import calibration_report, value_report
from fmrilm.stats.classification import UNPARSED, Metric, auc, classification_metrics
from fmrilm.stats.intervals import Answers
from fmrilm.stats.regression import ORDINAL_METRICS, VALUE_METRICS, is_flat, pearson
from fmrilm.stats.significance import N_PERMUTATIONS, PairedTest, correlation_test, paired_test
from fmrilm.tasks import Task, is_missing

CHOICE, NUMBER, HEAD = "choice", "number", "head"  # how a question is answered


class Kind(ABC):
    """How the answers of a task are read, scored and written down."""

    name: ClassVar[str]
    primary: ClassVar[str]  # the score that is compared and tested
    chance: ClassVar[float]  # its value where nothing is known
    shown: ClassVar[Mapping[str, str]]  # metrics in the table -> their titles
    fairness: ClassVar[Mapping[str, str]]  # metrics whose gaps between groups are looked at
    how: ClassVar[str]  # a model is asked, without its head
    is_number: ClassVar[bool]
    plain: ClassVar[str]  # linear model that is fitted to it
    uninformed_title: ClassVar[str]  # of the guess without a scan
    unparsed: ClassVar[float]  # stands for an answer that cannot be read

    @property
    def primary_title(self) -> str:
        """The primary score as it is written."""
        return self.shown[self.primary]

    @property
    @abstractmethod
    def primary_metric(self) -> Metric:
        """The primary score as a function."""

    @abstractmethod
    def lacks(self, labels: np.ndarray, n_classes: int | None) -> str:
        """Return why nothing can be learned from labels, nor scored on them; empty if it can."""

    @abstractmethod
    def says_nothing(self, scores: np.ndarray) -> str:
        """Return why scores (n, C) have no primary score of their own; empty if they have one."""

    @abstractmethod
    def label(self, task: Task, value: Any) -> float | None:
        """Return the label of one scan as a number; None if it is missing."""

    @abstractmethod
    def describe_labels(self, task: Task, labels: np.ndarray) -> str:
        """Return what the labels are, in a few words."""

    @abstractmethod
    def metrics(self, task: Task) -> dict[str, Metric]:
        """Return the scores of the task, by name."""

    @abstractmethod
    def answers(self, scores: np.ndarray, predicted: np.ndarray | None = None) -> Answers:
        """Return the answers that scores (n, C) or (K, n, C) stand for."""

    @abstractmethod
    def uninformed(self, task: Task, labels: np.ndarray, count: int) -> np.ndarray:
        """Return scores (count, C) of a guess that knows only the training labels."""

    @abstractmethod
    def parse(self, task: Task, text: str) -> float:
        """Return the answer that a text names, ``unparsed`` if it names none or several."""

    @abstractmethod
    def is_right(self, labels: np.ndarray, parsed: np.ndarray) -> np.ndarray:
        """Return which parsed answers are right."""

    @abstractmethod
    def columns(self, task: Task, scores: np.ndarray) -> dict[str, Any]:
        """Return the columns of a table that hold the scores (n, C)."""

    @abstractmethod
    def word(self, task: Task, answer: float) -> Any:
        """Return one answer as it is written in a table."""

    @abstractmethod
    def linked(self, scores: np.ndarray) -> np.ndarray:
        """Return the scores on a scale on which covariates may be regressed out."""

    @abstractmethod
    def test(
        self, labels: np.ndarray, scores: Sequence[np.ndarray], subjects: np.ndarray
    ) -> PairedTest:
        """Return the paired test of the primary score of two predictors' scores (n, C)."""

    @abstractmethod
    def calibration(
        self,
        task: Task,
        val: tuple[np.ndarray, np.ndarray],
        asked: tuple[np.ndarray, np.ndarray],
        people: tuple[np.ndarray, np.ndarray],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what is fitted on val and read on ``asked``: a report, and columns per scan.

        ``people`` has the scans of either in the same order.
        """

    @abstractmethod
    def check_head(self, task: Task, n_outputs: int) -> None:
        """Raise :class:`InputError` if a head of so many outputs does not answer the task."""


class _Classes(Kind):
    """One of several answers, scored by the probabilities of all."""

    name = "classes"
    primary = "auc"
    chance = 0.5
    shown: ClassVar = {"auc": "AUC", "balanced_accuracy": "balanced acc.", "f1": "F1"}
    fairness: ClassVar = {
        "auc": "AUC",
        "sensitivity": "true positive rate",
        "specificity": "false positive rate",  # its gap is that of one minus it
        "balanced_accuracy": "balanced accuracy",
    }
    how = CHOICE
    is_number = False
    plain = "logistic"
    uninformed_title = "majority class"
    unparsed = UNPARSED

    @property
    def primary_metric(self) -> Metric:
        return auc

    def lacks(self, labels: np.ndarray, n_classes: int | None) -> str:
        return "a class is missing" if len(np.unique(labels)) < (n_classes or 2) else ""

    def says_nothing(self, scores: np.ndarray) -> str:
        return ""

    def label(self, task: Task, value: Any) -> int | None:
        return task.class_index(value)

    def describe_labels(self, task: Task, labels: np.ndarray) -> str:
        counts = np.bincount(labels, minlength=len(task.candidates))
        return ", ".join(f"{n} {name}" for n, name in zip(counts, task.candidates, strict=True))

    def metrics(self, task: Task) -> dict[str, Metric]:
        return classification_metrics(len(task.candidates))

    def answers(self, scores: np.ndarray, predicted: np.ndarray | None = None) -> Answers:
        return Answers(scores, predicted)

    def uninformed(self, task: Task, labels: np.ndarray, count: int) -> np.ndarray:
        shares = np.bincount(labels, minlength=len(task.candidates)) / len(labels)
        return np.tile(shares, (count, 1))

    def parse(self, task: Task, text: str) -> float:
        found = task.parse(text)
        return UNPARSED if found is None else found

    def is_right(self, labels: np.ndarray, parsed: np.ndarray) -> np.ndarray:
        return parsed == labels

    def columns(self, task: Task, scores: np.ndarray) -> dict[str, Any]:
        names = probability_columns(task.candidates)
        return {name: scores[:, index] for index, name in enumerate(names)}

    def word(self, task: Task, answer: float) -> str:
        return "unparsed" if answer == UNPARSED else task.candidates[int(answer)]

    def linked(self, scores: np.ndarray) -> np.ndarray:
        return np.log(np.clip(scores, 1e-9, 1)) - np.log(np.clip(1 - scores, 1e-9, 1))

    def test(
        self, labels: np.ndarray, scores: Sequence[np.ndarray], subjects: np.ndarray
    ) -> PairedTest:
        return paired_test(labels, scores[0], scores[1], subjects)

    def calibration(
        self,
        task: Task,
        val: tuple[np.ndarray, np.ndarray],
        asked: tuple[np.ndarray, np.ndarray],
        people: tuple[np.ndarray, np.ndarray],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        report, sure = calibration_report(val, asked, people)
        chosen = asked[0].argmax(axis=1)
        words = [
            task.candidates[index] if is_sure else "not sure"
            for index, is_sure in zip(chosen, sure, strict=True)
        ]
        return report, {"answer_or_not_sure": words}

    def check_head(self, task: Task, n_outputs: int) -> None:
        if n_outputs < max(2, len(task.candidates)):
            raise InputError(
                f"the head of this run has {n_outputs} outputs, task {task.name!r} has "
                f"{len(task.candidates)} answers: use --answer words"
            )


class _Ordered(_Classes):
    """Classes with an order: how far off an answer is counts too."""

    name = "ordered"

    def metrics(self, task: Task) -> dict[str, Metric]:
        return {**super().metrics(task), **ORDINAL_METRICS}


class _Values(Kind):
    """A number, scored by the predicted value."""

    name = "values"
    primary = "r"
    chance = 0.0
    shown: ClassVar = {"r": "r", "mae": "MAE", "r2": "R2"}
    fairness: ClassVar = {"r": "r", "mae": "MAE"}
    how = NUMBER
    is_number = True
    plain = "linear"
    uninformed_title = "training mean"
    unparsed = float("nan")

    @property
    def primary_metric(self) -> Metric:
        return pearson

    def lacks(self, labels: np.ndarray, n_classes: int | None) -> str:
        return "all labels are the same" if len(np.unique(labels)) < 2 else ""

    def says_nothing(self, scores: np.ndarray) -> str:
        return "it says the same number of everybody" if is_flat(scores[:, 0]) else ""

    def label(self, task: Task, value: Any) -> float | None:
        task.class_index(value)  # refuses what is out of range
        return None if is_missing(value) else float(value)

    def describe_labels(self, task: Task, labels: np.ndarray) -> str:
        ends = f"{labels.min():.4g} to {labels.max():.4g}"
        return f"mean {labels.mean():.4g}, sd {labels.std():.3g}, {ends}"

    def metrics(self, task: Task) -> dict[str, Metric]:
        return VALUE_METRICS

    def answers(self, scores: np.ndarray, predicted: np.ndarray | None = None) -> Answers:
        return Answers(scores, scores[..., 0] if predicted is None else predicted)

    def uninformed(self, task: Task, labels: np.ndarray, count: int) -> np.ndarray:
        return np.full((count, 1), labels.mean())

    def parse(self, task: Task, text: str) -> float:
        low, high = task.values[0], task.values[-1]
        numbers = [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?", text)]
        inside = len(numbers) == 1 and low - 1 <= numbers[0] <= high + 1
        return numbers[0] if inside else float("nan")

    def is_right(self, labels: np.ndarray, parsed: np.ndarray) -> np.ndarray:
        return np.abs(parsed - labels) <= 0.5

    def columns(self, task: Task, scores: np.ndarray) -> dict[str, Any]:
        return {"value": scores[:, 0]}

    def word(self, task: Task, answer: float) -> Any:
        return "unparsed" if np.isnan(answer) else answer

    def linked(self, scores: np.ndarray) -> np.ndarray:
        return scores

    def test(
        self, labels: np.ndarray, scores: Sequence[np.ndarray], subjects: np.ndarray
    ) -> PairedTest:
        first, second = (one[:, 0] for one in scores)
        return correlation_test(labels, first, second, subjects, N_PERMUTATIONS)

    def calibration(
        self,
        task: Task,
        val: tuple[np.ndarray, np.ndarray],
        asked: tuple[np.ndarray, np.ndarray],
        people: tuple[np.ndarray, np.ndarray],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        told = [(scores[:, 0], labels) for scores, labels in (val, asked)]
        return value_report(told[0], told[1], people)

    def check_head(self, task: Task, n_outputs: int) -> None:
        if n_outputs != 1:
            raise InputError(
                f"the head of this run has {n_outputs} outputs, a number needs one: use "
                "--answer words"
            )


KINDS: dict[str, Kind] = {kind.name: kind for kind in (_Classes(), _Ordered(), _Values())}
_OF_TASK = {"binary": "classes", "multiclass": "classes", "ordinal": "ordered"}
_OF_TASK["regression"] = "values"


def kind_of(task: Task) -> Kind:
    """Return how a task is scored.

    Raises
    ------
    InputError
        If the task has neither classes nor numbers.
    """
    if task.kind not in _OF_TASK:
        raise InputError(f"task {task.name!r} has no classes and no numbers to score")
    return KINDS[_OF_TASK[task.kind]]


def probability_columns(candidates: Sequence[str]) -> list[str]:
    """Return the columns of ``predictions.csv`` that hold the candidates' probabilities."""
    return [f"p_{name}" for name in candidates]
