"""What is known of a participant besides the scan, as numbers: age, sex, site, motion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from fmrilm.evaluation.questions import Question

COVARIATES = ("age", "sex", "site", "mean_fd")


def known_covariates(question: Question) -> list[str]:
    """Return the covariate columns of the cohort that do not give the task's answer away."""
    hidden = {name.lower() for name in (*question.task.reveals, question.task.column)}
    columns = question.cohort.table.columns
    return [name for name in COVARIATES if name in columns and name not in hidden]


def design(question: Question, names: list[str], train_rows: np.ndarray) -> np.ndarray:
    """Return covariates of the question's scans as numbers, shape (n, p); nan where missing.

    Words become one column per value that occurs in training.
    """
    table = question.cohort.table
    columns = []
    for name in names:
        values = table[name]
        if pd.api.types.is_numeric_dtype(values):
            columns.append(values.iloc[question.rows].to_numpy(dtype=float))
            continue
        words = values.astype(str)
        for value in sorted(words.iloc[train_rows].unique()):
            columns.append((words.iloc[question.rows] == value).to_numpy(dtype=float))
    return np.stack(columns, axis=1)
