"""What a prompt tells about the person of a scan: columns by name, or the cohort's own text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.original import TEXTS
from fmrilm.tasks import Task
from fmrilm.tasks.telling import revealing, split_told, stating_words

AUTO = "auto"  # in place of columns: what the original's bare --add_desc tells, less the answers
_COLUMNS = ("age", "sex")  # told of a cohort without texts
_SHOWN = 3


class Teller:
    """What may be told about the people of a cohort where some tasks are asked.

    Parameters
    ----------
    cohort : Cohort
    columns : sequence of str
        Columns to tell, as they are; ``auto`` among them tells the cohort's text about a person
        (its age and sex, if there is none) without what gives an answer away.
    tasks : sequence of Task
        All that are asked in one prompt.
    """

    def __init__(self, cohort: Cohort, columns: Sequence[str], tasks: Sequence[Task]) -> None:
        self._cohort, self._tasks = cohort, list(tasks)
        self._columns = [name for name in columns if name != AUTO]
        self._text = None
        self._patterns = []
        if AUTO not in columns:
            return
        self._text = next((name for name in TEXTS if name in cohort.table), None)
        if self._text is None:
            hidden = {name for task in tasks for name in (*task.reveals, task.column)}
            self._columns += [n for n in _COLUMNS if n in cohort.table and n not in hidden]
            return
        self._patterns = [revealing(task) for task in self._tasks]
        train = cohort.indices("train")
        told = [split_told(self._of(row), self._patterns)[0] for row in train]
        for task in self._tasks:
            labels = cohort.labels(task.column).iloc[train]
            if task.classes:
                words = stating_words(told, [task.class_index(label) for label in labels])
                self._patterns.append(revealing(task, words))

    def _of(self, row: int) -> str:
        value = self._cohort.table[self._text].iloc[int(row)]
        return "" if pd.isna(value) else str(value)

    def facts(self, row: int) -> dict[str, Any]:
        """Return what is told about the person of a scan, by name; what is missing left out."""
        facts = self._cohort.facts(int(row), self._columns)
        if self._text is not None:
            told, _ = split_told(self._of(row), self._patterns)
            if told:
                facts["description"] = told
        return facts

    def left_out(self, rows: Sequence[int]) -> str:
        """Return a sentence on what is left out of the texts of some scans; empty if nothing is."""
        if self._text is None:
            return ""
        counts = Counter(
            clause for row in rows for clause in split_told(self._of(row), self._patterns)[1]
        )
        if not counts:
            return ""
        some = ", ".join(repr(clause) for clause, _ in counts.most_common(_SHOWN))
        names = " and ".join(task.name for task in self._tasks)
        return (
            f"{self._cohort.name}: add_desc tells {self._text} without {len(counts)} clauses that "
            f"give the answer of {names} away ({some}{', ...' if len(counts) > _SHOWN else ''})"
        )
