"""Which scans are asked what: the labelled scans of one split of one cohort, for one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fmrilm.cohort.told import Teller
from fmrilm.errors import InputError
from fmrilm.evaluation.scoring import Asked
from fmrilm.stats.kinds import HEAD, Kind, kind_of
from fmrilm.tasks import TASKS, Task, build_prompt

if TYPE_CHECKING:
    from fmrilm.cohort.cohort import Cohort
    from fmrilm.config.schema import Config

NO_SITE = "all"


@dataclass(frozen=True)
class Question:
    """One task asked of the labelled scans of a split.

    Attributes
    ----------
    rows : ndarray of int, shape (n,)
        Positions of the scans in the cohort's store.
    labels : ndarray, shape (n,)
        Class of each scan, a position in ``task.classes`` (int); of a number task the number.
    subjects, sites : ndarray of str, shape (n,)
    n_missing : int
        Scans of the split without a label, left out.
    """

    cohort: Cohort
    task: Task
    split: str
    rows: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray
    sites: np.ndarray
    n_missing: int

    @property
    def n_subjects(self) -> int:
        """Different people among the scans."""
        return len(np.unique(self.subjects))

    @property
    def kind(self) -> Kind:
        """How its answers are scored."""
        return kind_of(self.task)

    @property
    def class_counts(self) -> dict[str, int]:
        """Scans per answer; empty for a number."""
        if not self.task.classes:
            return {}
        counts = np.bincount(self.labels, minlength=len(self.task.classes))
        return dict(zip(self.task.candidates, counts.tolist(), strict=True))


def select(cohort: Cohort, task: Task, split: str) -> Question:
    """Return the labelled scans of ``split`` for ``task``.

    Raises
    ------
    InputError
        If the task has neither classes nor numbers, the split is empty or none of its scans has a
        label, the label column is absent, or a label is none of the task's.
    """
    kind = kind_of(task)
    rows = cohort.indices(split)
    column = cohort.labels(task.column)
    try:
        found = [kind.label(task, label) for label in column.iloc[rows]]
    except ValueError as error:
        raise InputError(f"{cohort.name}: {error}") from None
    keep = np.array([label is not None for label in found], dtype=bool)
    if not keep.any():
        raise InputError(
            f"{cohort.name}: no scan of the {split} split has a label in {task.column!r}; "
            f"leave task {task.name!r} out with --tasks"
        )
    table = cohort.table.iloc[rows[keep]]
    return Question(
        cohort,
        task,
        split,
        rows[keep],
        np.array([label for label in found if label is not None]),
        table["subject_id"].to_numpy(dtype=str),
        site_of(table),
        int((~keep).sum()),
    )


def site_of(table: pd.DataFrame) -> np.ndarray:
    """Return the site of every row; one name for all where the cohort has no ``site`` column."""
    if "site" not in table.columns:
        return np.full(len(table), NO_SITE)
    return table["site"].astype(str).to_numpy(dtype=str)


def prompts_for(question: Question, config: Config, variant: int = 0) -> list[str]:
    """Return one prompt per scan, built as the run's training built them, base wording.

    Raises
    ------
    InputError
        If a participant column of ``add_desc`` is absent, or gives the answer away.
    """
    sentence = question.cohort.info.description if config.instruct.add_src_info else ""
    columns = config.instruct.add_desc
    if not columns:
        return [build_prompt(question.task, variant, sentence)] * len(question.rows)
    teller = Teller(question.cohort, columns, [question.task])
    return [
        build_prompt(question.task, variant, sentence, teller.facts(int(row)))
        for row in question.rows
    ]


def ask(question: Question, prompts: Sequence[str], head: bool = False) -> Asked:
    """Return what a model is asked; with ``head`` its head answers, not its words."""
    how = HEAD if head else question.kind.how
    return Asked(question.rows, prompts, tuple(question.task.candidates), how)


def tasks_of(cohort: Cohort, config: Config, asked: Sequence[str] = ()) -> list[Task]:
    """Return the tasks to score on ``cohort``.

    Those of ``asked``; else those the run was trained on that the cohort has labels for; else the
    targets of the cohort.

    Raises
    ------
    InputError
        If a task is unknown, or nothing is left to ask.
    """
    if asked:
        return [TASKS[name] for name in asked]
    targets = config.datasets[cohort.name].targets if cohort.name in config.datasets else []
    for names in (config.instruct.tasks, targets, cohort.info.targets):
        tasks = [TASKS[name] for name in names]
        found = [task for task in tasks if task.candidates and task.column in cohort.table.columns]
        if found:
            return found
    known = ", ".join(name for name, task in TASKS.items() if task.candidates)
    raise InputError(
        f"nothing to ask of cohort {cohort.name!r}: name tasks with --tasks (known: {known})"
    )
