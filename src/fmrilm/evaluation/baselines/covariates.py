"""What is known of a participant besides the scan: age, sex, motion, and how it was scanned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fmrilm.tables.columns import ColumnEncoder, is_acquisition, kind_of

if TYPE_CHECKING:
    from fmrilm.evaluation.questions import Question

COVARIATES = ("age", "sex", "site", "mean_fd")


def known_covariates(question: Question) -> list[str]:
    """Return the covariate columns of the cohort that do not give the task's answer away.

    Besides :data:`COVARIATES` these are the categories that say how a scan was made: scanner,
    batch, manufacturer, ...
    """
    hidden = {name.lower() for name in (*question.task.reveals, question.task.column)}
    table = question.cohort.table
    others = [
        str(name)
        for name in table.columns
        if name not in COVARIATES
        and is_acquisition(str(name))
        and kind_of(table[name]) == "category"
    ]
    names = [*(name for name in COVARIATES if name in table.columns), *others]
    return [name for name in names if name.lower() not in hidden]


def design(question: Question, names: list[str], train_rows: np.ndarray) -> np.ndarray:
    """Return covariates of the question's scans as features, shape (n, p); nan where missing.

    Categories become one feature per value that occurs in training, whether they are coded by words
    or by whole numbers (:mod:`fmrilm.tables.columns`).
    """
    table = question.cohort.table
    encoder = ColumnEncoder().fit(table.iloc[train_rows], names)
    return encoder.transform(table.iloc[question.rows])
