"""What predicts a label without the signal: prompt fields, site, motion, absent regions, length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fmrilm.checks.finding import Finding
from fmrilm.cohort.cohort import Cohort
from fmrilm.lineage.scan_properties import ScanProperties
from fmrilm.readers import read_table
from fmrilm.tables.columns import ColumnEncoder, is_acquisition, kind_of
from fmrilm.tasks import TASKS, Task

_FOLDS = 5
_FEWEST = 20  # subjects, and 5 per class, below which nothing is said
REVEALING = 0.85  # AUC from which a field gives the answer away
SUSPICIOUS = 0.62  # AUC from which a field is a confound, if it is above chance with confidence
_PERMUTATIONS = 200
_Z = 3.1  # standard deviations above the AUC of permuted labels: one in 1,000 by chance
_PENALTY = 0.1  # of ridge regression on standardised features, times their number
_IDS = ("subject_id", "session_id", "split")


@dataclass(frozen=True)
class Strength:
    """How well something predicts a label: AUC by subject, and whether chance explains it."""

    auc: float
    is_real: bool

    @property
    def is_suspicious(self) -> bool:
        """Whether it is a confound."""
        return self.is_real and self.auc >= SUSPICIOUS

    @property
    def is_revealing(self) -> bool:
        """Whether it gives the label away."""
        return self.is_real and self.auc >= REVEALING

    @property
    def level(self) -> str:
        """How bad it is, if it is suspicious."""
        return "error" if self.is_revealing else "warning"


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
            strength = predict_label(cohort, task, column_features(cohort.table[name]))
            if strength.is_revealing:
                yield _revealing(cohort, name, task, f"AUC {strength.auc:.2f} without a scan")
            elif strength.is_suspicious:
                yield Finding(
                    "field_predicts_label",
                    "warning",
                    f"{cohort.name}: told to the model, {name} alone predicts {task.name} with AUC "
                    f"{strength.auc:.2f}",
                    f"leave {name} out of add_desc, or report the text-only control beside it",
                    [name],
                )


def check_confounds(cohort: Cohort) -> Iterator[Finding]:
    """Site, scanner, batch, motion, ... that predict the label of a task.

    Other columns of ``samples.tsv`` (which run, which trial) are noted, no more: they may well
    belong to the design.
    """
    for task in _tasks(cohort):
        hidden = {name.lower() for name in (*task.reveals, task.column)}
        for name in map(str, cohort.table):
            is_design = name in _scan_columns(cohort) and name != "mean_fd"
            if name.lower() in hidden or not (
                name == "mean_fd" or is_acquisition(name) or is_design
            ):
                continue
            strength = predict_label(cohort, task, column_features(cohort.table[name]))
            if not strength.is_suspicious:
                continue
            about = f"alone predicts {task.name} with AUC {strength.auc:.2f}"
            if is_design and not is_acquisition(name):
                yield Finding(
                    "design_predicts_label",
                    "note",
                    f"{cohort.name}: {name} of samples.tsv {about}",
                    f"never tell {name} to the model; {task.name} and {name} cannot be told apart",
                    [name],
                )
                continue
            code, what = {
                "site": ("site", "the site"),
                "mean_fd": ("motion", "motion (mean_fd)"),
            }.get(name, ("acquisition", f"the column {name}"))
            yield Finding(
                f"{code}_predicts_label",
                "warning",
                f"{cohort.name}: {what} {about}",
                "balance the groups, stratify by it, or report the model beside this baseline",
                [name],
            )


def check_hidden(cohort: Cohort) -> Iterator[Finding]:
    """A label that shows in what is no signal: absent regions, length, intensity."""
    properties = ScanProperties.of(cohort.store)
    looks = (
        ("missing_regions_predict_label", "which regions are absent", properties.of_missing()),
        ("length_predicts_label", "the number of volumes", properties.of_length()),
        ("intensity_predicts_label", "the level of the intensities", properties.of_intensity()),
    )
    for task in _tasks(cohort):
        for code, what, features in looks:
            strength = predict_label(cohort, task, features)
            if not strength.is_suspicious:
                continue
            level = strength.level
            if code.startswith("intensity") and not properties.has_raw_units:
                # In scaled series the level of a window is signal, that of a whole scan hardly is
                level = "error" if strength.is_revealing and properties.is_long else "note"
            yield Finding(
                code,
                level,
                f"{cohort.name}: {what} alone predicts {task.name} with AUC {strength.auc:.2f}",
                "prepare the scans of all groups alike, or report the model beside this baseline",
                [task.column],
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


def _scan_columns(cohort: Cohort) -> set[str]:
    """Return the columns of ``samples.tsv`` that are no label of a task."""
    path = cohort.folder / "samples.tsv"
    if not path.is_file():
        return set()
    labels = {task.column for _, task in TASKS.items()}
    return {str(name) for name in read_table(path)} - labels - {*_IDS}


def column_features(values: pd.Series) -> np.ndarray:
    """Return one column as features: categories and words one by one, numbers with their square.

    That a number is missing is a feature, too.
    """
    features = (
        ColumnEncoder().fit(values.to_frame(), [str(values.name)]).transform(values.to_frame())
    )
    if kind_of(values) != "number":
        return features
    absent = np.isnan(features)
    z = np.where(absent, 0.0, features)
    return np.hstack([z, z**2, absent])


def predict_label(cohort: Cohort, task: Task, features: np.ndarray) -> Strength:
    """Return how well features predict a task's label, in cross-validation over subjects.

    Ridge regression on the classes; with more than two the mean over classes against the rest (of
    an ordinal task: over what lies above each step), a number as above or below its median. The
    result is held against labels that are permuted: within subjects where these have several
    labels, else between subjects.

    Parameters
    ----------
    cohort : Cohort
    task : Task
    features : ndarray, shape (n_scans, n_features)

    Returns
    -------
    strength : Strength
        Nan and not real if there are too few subjects, or the features do not vary.
    """
    labels = cohort.table[task.column]
    if task.kind == "regression":
        numbers = pd.to_numeric(labels, errors="coerce")
        classes = (numbers > numbers.median()).astype(float).where(numbers.notna())
    else:
        classes = labels.map(task.class_index)
    known = classes.notna().to_numpy()
    groups = cohort.table.loc[known, "subject_id"].to_numpy()
    target = classes[known].astype(int).to_numpy()
    counts = np.unique(target, return_counts=True)[1]
    inputs = features[known]
    inputs = inputs[:, np.ptp(inputs, axis=0) > 0] if len(inputs) else inputs
    too_few = len(set(groups)) < _FEWEST or len(counts) < 2 or counts.min() < _FOLDS
    if too_few or not inputs.shape[1]:
        return Strength(float("nan"), False)
    rng = np.random.default_rng(0)
    shuffle = _shuffler(target, groups)
    columns = np.stack([target, *(shuffle(rng) for _ in range(_PERMUTATIONS))], axis=1)
    auc, *by_chance = _cross_validated(inputs, columns, groups, task.kind == "ordinal")
    limit = float(np.mean(by_chance) + _Z * np.std(by_chance))
    return Strength(auc, auc > max(limit, *by_chance))


def _shuffler(
    target: np.ndarray, groups: np.ndarray
) -> Callable[[np.random.Generator], np.ndarray]:
    """Return a function that permutes labels within subjects, or whole subjects."""
    names, first, member = np.unique(groups, return_index=True, return_inverse=True)
    if (target[first][member] == target).all():
        return lambda rng: target[first][rng.permutation(len(names))][member]

    def within(rng: np.random.Generator) -> np.ndarray:
        order = np.lexsort([rng.random(len(target)), member])
        shuffled = np.empty_like(target)
        shuffled[np.argsort(member, kind="stable")] = target[order]
        return shuffled

    return within


def _cross_validated(
    features: np.ndarray, targets: np.ndarray, groups: np.ndarray, ordered: bool
) -> list[float]:
    """Return the AUC of every column of targets (n_scans, n_targets), in folds over subjects."""
    from scipy.stats import rankdata

    names, first, member = np.unique(groups, return_index=True, return_inverse=True)
    order = np.lexsort([np.random.default_rng(0).random(len(names)), targets[first, 0]])
    fold = np.empty(len(names), dtype=int)
    fold[order] = np.arange(len(names)) % _FOLDS  # subjects of a class are dealt out evenly
    present = np.unique(targets)
    present = present[1:] if ordered or len(present) == 2 else present
    compare = np.greater_equal if ordered else np.equal
    is_class = compare(targets[:, :, None], present).astype(float).reshape(len(targets), -1)
    scores = np.zeros_like(is_class)
    for number in range(_FOLDS):
        asked = fold[member] == number
        inputs = features[~asked]
        centre, spread = inputs.mean(axis=0), inputs.std(axis=0)
        spread = np.where(spread > 0, spread, np.inf)
        inputs, held_out = (inputs - centre) / spread, (features[asked] - centre) / spread
        penalty = _PENALTY * inputs.shape[1] * np.eye(inputs.shape[1])
        weights = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ is_class[~asked])
        scores[asked] = held_out @ weights
    ranks = rankdata(scores.round(9), axis=0)
    positive = is_class.sum(axis=0)
    above = (ranks * is_class).sum(axis=0) - positive * (positive + 1) / 2
    aucs = above / (positive * (len(targets) - positive))
    return aucs.reshape(targets.shape[1], -1).mean(axis=1).tolist()
