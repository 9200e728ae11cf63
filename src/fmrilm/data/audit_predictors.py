"""What predicts a label without the scan: prompt fields, site, motion; by subject-wise CV."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fmrilm.data.cohort import Cohort
from fmrilm.data.findings import Finding
from fmrilm.tasks import TASKS, Task

_FOLDS = 5
_FEWEST = 20  # subjects, and 5 per class, below which nothing is said
REVEALING = 0.85  # AUC from which a field gives the answer away
SUSPICIOUS = 0.62  # AUC from which a field is a confound, if it is above chance with confidence
_Z = 2.58  # standard errors above 0.5: 99%


def check_fields(cohort: Cohort, fields: list[str]) -> Iterator[Finding]:
    """Prompt fields that give the label of a task away, by the task's own list or by prediction."""
    for task in _tasks(cohort):
        hidden = {name.lower() for name in (*task.reveals, task.column)}
        for name in fields:
            if name.lower() in hidden:
                if name != task.column:
                    yield _revealing(cohort, name, task, "by definition")
                continue
            if name not in cohort.table:
                continue
            auc, error = predict_label(cohort, name, task)
            if auc >= REVEALING:
                yield _revealing(cohort, name, task, f"AUC {auc:.2f} without a scan")
            elif _is_suspicious(auc, error):
                yield Finding(
                    "field_predicts_label",
                    "warning",
                    f"{cohort.name}: told to the model, {name} alone predicts {task.name} with AUC "
                    f"{auc:.2f}",
                    f"leave {name} out of add_desc, or report the text-only control beside it",
                    [name],
                )


def check_confounds(cohort: Cohort) -> Iterator[Finding]:
    """Site or motion that predicts the label of a task."""
    for task in _tasks(cohort):
        for name in ("site", "mean_fd"):
            if name not in cohort.table or name == task.column:
                continue
            auc, error = predict_label(cohort, name, task)
            if _is_suspicious(auc, error):
                what = "the site" if name == "site" else "motion (mean_fd)"
                yield Finding(
                    f"{'site' if name == 'site' else 'motion'}_predicts_label",
                    "warning",
                    f"{cohort.name}: {what} alone predicts {task.name} with AUC {auc:.2f}",
                    "balance the groups, stratify by it, or report the model beside this baseline",
                    [name],
                )


def _revealing(cohort: Cohort, name: str, task: Task, how: str) -> Finding:
    return Finding(
        "field_reveals_label",
        "error",
        f"{cohort.name}: the prompt field {name} gives {task.name} away ({how})",
        f"take {name} out of add_desc",
        [name],
    )


def _tasks(cohort: Cohort) -> list[Task]:
    names = [name for name in cohort.info.targets if name in TASKS]
    return [TASKS[name] for name in names if TASKS[name].column in cohort.table]


def _is_suspicious(auc: float, error: float) -> bool:
    return auc >= SUSPICIOUS and auc - _Z * error > 0.5


def predict_label(cohort: Cohort, column: str, task: Task) -> tuple[float, float]:
    """Return how well one column predicts a task's label, and the standard error.

    The column is read as a number where it is one (with its square) and as text (single words and
    groups of letters), by logistic regression in cross-validation over subjects. With more than two
    classes the mean over classes against the rest is returned.

    Returns
    -------
    auc, error : float
        NaN and 0 if there are too few subjects.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values, labels = cohort.table[column], cohort.table[task.column]
    classes = labels.map(task.class_index)
    known = classes.notna() & values.notna()
    groups = cohort.table.loc[known, "subject_id"].to_numpy()
    target = classes[known].astype(int).to_numpy()
    counts = np.unique(target, return_counts=True)[1]
    if len(set(groups)) < _FEWEST or len(counts) < 2 or counts.min() < _FOLDS:
        return float("nan"), 0.0
    features = _features(values[known])
    scores = np.zeros((len(target), len(counts)))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    scores = cross_val_predict(
        model, features, target, groups=groups, cv=folds, method="predict_proba"
    )
    present = np.unique(target)
    aucs, errors = [], []
    for position, value in enumerate(present[1:] if len(present) == 2 else present):
        column_of = position + 1 if len(present) == 2 else position
        positive = target == value
        auc = roc_auc_score(positive, scores[:, column_of])
        aucs.append(auc)
        # Hanley and McNeil's bound for chance, with subjects as the units
        subjects = len(set(groups))
        share = positive.mean()
        errors.append(np.sqrt(1 / (12 * subjects * share * (1 - share))))
    return float(np.mean(aucs)), float(np.mean(errors))


def _features(values: pd.Series) -> np.ndarray:
    """Return one column as numbers and as words: the text classifier of the audit."""
    from sklearn.feature_extraction.text import CountVectorizer

    parts = []
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all():
        z = (numbers - numbers.mean()) / (numbers.std() or 1.0)
        parts += [z.to_numpy()[:, None], (z**2).to_numpy()[:, None]]
    if numbers.isna().any() or numbers.nunique() <= 20:
        texts = values.astype(str).str.lower()
        words = CountVectorizer(token_pattern=r"\S+", max_features=200, binary=True)
        parts.append(words.fit_transform(texts).toarray().astype(float))
    return np.hstack(parts)
