"""Do the labels of windows coincide with events of the run? Then the events may be what is read."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from fmrilm.checks.finding import Finding
from fmrilm.cohort.cohort import Cohort
from fmrilm.tables.events import COLUMN, DELAY, busy_rest, coincidences, from_text, rest_labels
from fmrilm.tasks import TASKS, Task


def check_events(cohort: Cohort) -> Iterator[Finding]:
    """Yield what happened in the windows of each answer, for every task of a cohort of windows.

    A window that is called rest but overlaps an event is an error; that an answer goes with an
    event is a note, for it may be what the task asks.

    Parameters
    ----------
    cohort : Cohort
        Nothing is said of one without the column ``events``.
    """
    if COLUMN not in cohort.table:
        return
    tasks = [TASKS[name] for name in cohort.info.targets if name in TASKS]
    for task in tasks:
        if task.column not in cohort.table or not task.candidates:
            continue
        if rest_labels(task):
            busy = busy_rest(cohort.table, task)
            if len(busy):
                yield Finding(
                    "rest_overlaps_event",
                    "error",
                    f"{cohort.name}: {len(busy)} windows that task {task.name} calls rest overlap "
                    "an event",
                    "name the label after the event, or cut windows that overlap none",
                    [f"{row.subject_id} {row.session_id}" for row in busy.itertuples()],
                )
        yield _report(cohort, task)


def _report(cohort: Cohort, task: Task) -> Finding:
    """Return a note of how the answers of a task and the events of the run coincide."""
    seconds = cohort.store.shape(0)[1] * (cohort.store.t_r or cohort.info.t_r)
    if not task.classes:
        said = list(_of_numbers(cohort, task, seconds))
    else:
        said = [
            f"{_share(some, windows)} {answer!r} window{'' if some == windows else 's'} overlap"
            f"{'s' if some == windows else ''} event {kind!r} by {mean:.1f} of {seconds:g} s"
            for answer, kind, some, windows, mean in coincidences(cohort.table, task)
            if some
        ]
    return Finding(
        "label_and_events",
        "note",
        f"{cohort.name}: task {task.name}: {'; '.join(said) or 'no window overlaps an event'} "
        f"(delay {DELAY:g} s)",
        "an event that goes with an answer may carry the score: say so beside it",
        [task.column],
    )


def _of_numbers(cohort: Cohort, task: Task, seconds: float) -> Iterator[str]:
    """Yield how the overlap with each kind of event goes with the number that is asked for."""
    table = cohort.table[cohort.table[task.column].notna()]
    shared = pd.DataFrame(table[COLUMN].map(from_text).tolist(), index=table.index).fillna(0.0)
    for kind, overlap in shared.items():
        some = int((overlap > 0).sum())
        mean = overlap[overlap > 0].mean()
        r = overlap.corr(table[task.column]) if overlap.std() > 0 else 0.0
        yield (
            f"{_share(some, len(table))} window{'' if some == len(table) else 's'} overlap"
            f"{'s' if some == len(table) else ''} event {str(kind)!r} by {mean:.1f} of {seconds:g} "
            f"s (r of overlap and label {r:.2f})"
        )


def _share(some: int, windows: int) -> str:
    return "every" if some == windows else f"{some} of {windows}"
