"""The checks of ``fmrilm doctor`` on labels: what no task can use is found before training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fmrilm.checks.finding import Finding
from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.tables.people import suspicious_codes
from fmrilm.tasks import TASKS


def check_labels(cohort: Cohort) -> Iterator[Finding]:
    """Values that a task asking for their column does not know."""
    for name, task in TASKS.items():
        if not task.column or task.column not in cohort.table:
            continue
        wrong = {}
        for value in cohort.table[task.column].dropna().unique():
            try:
                task.class_index(value)
            except InputError as error:
                wrong[value] = str(error)
        if wrong:
            count = int(cohort.table[task.column].isin(list(wrong)).sum())
            sentence, _, remedy = next(iter(wrong.values())).partition(": correct")
            yield Finding(
                "unknown_label",
                "error" if name in cohort.info.targets else "warning",
                f"{sentence} ({count} of {len(cohort.table)} samples)",
                f"correct{remedy}",
                [str(value) for value in wrong],
            )


def check_codes(cohort: Cohort) -> Iterator[Finding]:
    """Numbers such as -9 or 999 that may stand for a missing value."""
    for name in cohort.table.columns.difference(["subject_id", "session_id", "split"]):
        for code, count in suspicious_codes(cohort.table[name]).items():
            yield Finding(
                "missing_code",
                "warning",
                f"{name} is {code:g} in {count} samples, far from all other values",
                f"if it stands for a missing value, write n/a in participants.tsv, or say missing: "
                f"{{{name}: [{code:g}]}} in the cohort's YAML and prepare it again",
                [name],
            )


def check_groups(cohort: Cohort) -> Iterator[Finding]:
    """Labels that cannot be learned or scored: one class in a split."""
    table = cohort.table
    for name in cohort.info.targets:
        if name not in table:
            continue
        splits = ("train", "val", "test")
        labels = {split: set(table.loc[table["split"] == split, name].dropna()) for split in splits}
        poor = [split for split in splits if len(labels[split]) < 2]
        if poor:
            yield Finding(
                "one_class",
                "warning",
                f"{name} has fewer than two classes in the {' and '.join(poor)} split",
                "add subjects, or make new splits (delete splits.tsv)",
                [name],
            )


LABEL_CHECKS: tuple[Callable[[Cohort], Iterator[Finding]], ...] = (
    check_labels,
    check_codes,
    check_groups,
)
