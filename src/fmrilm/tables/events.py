"""What happened while a window was recorded: its overlap with the events of the run.

A BOLD response comes about five seconds after what causes it, so events are moved by that delay
before their overlap with a window is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from fmrilm.errors import InputError
from fmrilm.tasks import Task, is_missing

DELAY = 5.0  # seconds from an event to the response in BOLD
COLUMN = "events"  # of samples.tsv: "rating:11.0 stimulus:0.4", seconds; "none" where there is none
NONE = "none"
REST_WORDS = (
    "rest",
    "resting",
    "baseline",
    "fixation",
)  # answers that promise that nothing happens


@dataclass(frozen=True)
class Event:
    """One event of a run; seconds from the run's first volume."""

    kind: str
    onset: float
    duration: float


def overlaps(
    start: float, stop: float, events: Iterable[Event], delay: float = DELAY
) -> dict[str, float]:
    """Return the seconds that a window shares with each kind of event, most first.

    Parameters
    ----------
    start, stop : float
        Bounds of the window in seconds from the run's first volume.
    events : iterable of Event
    delay : float
        Seconds by which the events are moved; 0: when they happened.
    """
    shared: dict[str, float] = {}
    for event in events:
        begin = event.onset + delay
        seconds = min(stop, begin + event.duration) - max(start, begin)
        if seconds > 0:
            shared[event.kind] = shared.get(event.kind, 0.0) + seconds
    return dict(sorted(shared.items(), key=lambda pair: -pair[1]))


def free_stretches(events: Iterable[Event], length: float, delay: float = DELAY) -> list[float]:
    """Return how long each stretch of a run is that overlaps no event, in seconds.

    Parameters
    ----------
    events : iterable of Event
    length : float
        Seconds of the run.
    delay : float
        Seconds by which the events are moved.
    """
    stretches, last = [], 0.0
    for event in sorted(events, key=lambda event: event.onset):
        stretches.append(min(event.onset + delay, length) - last)
        last = max(last, event.onset + delay + event.duration)
    return [seconds for seconds in [*stretches, length - last] if seconds > 0]


def to_text(shared: dict[str, float]) -> str:
    """Return overlaps as they stand in ``samples.tsv``."""
    return " ".join(f"{kind}:{seconds:.1f}" for kind, seconds in shared.items()) or NONE


def from_text(text: object) -> dict[str, float]:
    """Return the overlaps that :func:`to_text` wrote.

    Raises
    ------
    InputError
        If the text is not of that form.
    """
    if is_missing(text) or text == NONE:
        return {}
    try:
        pairs = (word.rsplit(":", 1) for word in str(text).split())
        return {kind: float(seconds) for kind, seconds in pairs}
    except ValueError:
        raise InputError(
            f"column {COLUMN!r} of samples.tsv holds {text!r}: write kind:seconds with spaces "
            f"between them, or {NONE}"
        ) from None


def rest_labels(task: Task) -> list[str]:
    """Return the label values of a task whose answer says that nothing happened."""
    return [
        value
        for value, answer in task.answers.items()
        if any(word in REST_WORDS for word in answer.lower().split())
    ]


def busy_rest(samples: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return the windows that a task calls rest, and that overlap an event.

    Parameters
    ----------
    samples : DataFrame
        Windows with the label column of the task and the column ``events``.
    task : Task
    """
    labels = samples[task.column].map(task.class_index)
    resting = [task.classes.index(value) for value in rest_labels(task)]
    busy = samples[COLUMN].map(lambda text: bool(from_text(text)))
    return samples[labels.isin(resting) & busy]


def check_rest(samples: pd.DataFrame, tasks: Iterable[Task]) -> None:
    """Refuse windows that are labelled as rest but overlap an event.

    Parameters
    ----------
    samples : DataFrame
        What becomes ``samples.tsv``.
    tasks : iterable of Task
        The targets of the cohort.

    Raises
    ------
    InputError
        If there is one, with the number of them and the first.
    """
    for task in tasks:
        if task.column not in samples or not rest_labels(task):
            continue
        busy = busy_rest(samples, task)
        if len(busy):
            first = busy.iloc[0]
            raise InputError(
                f"task {task.name}: {len(busy)} windows labelled as rest overlap an event (first: "
                f"{first['participant_id']} {first['session_id']}, {first[COLUMN]}): name the "
                "label after the event, or cut windows that overlap none"
            )


def coincidences(table: pd.DataFrame, task: Task) -> Iterator[tuple[str, str, int, int, float]]:
    """Yield how each answer of a task coincides with each kind of event.

    Parameters
    ----------
    table : DataFrame
        Windows with the label column of the task and the column ``events``.
    task : Task
        With classes.

    Yields
    ------
    answer, kind : str
    n_overlapping, n_windows : int
        Windows with this answer that overlap the event, of how many.
    seconds : float
        Mean overlap of those that do.
    """
    shared = table[COLUMN].map(from_text)
    kinds = sorted({kind for one in shared for kind in one})
    classes = table[task.column].map(task.class_index)
    for position, answer in enumerate(task.candidates):
        windows = shared[classes == position]
        for kind in kinds:
            seconds = [one[kind] for one in windows if kind in one]
            mean = sum(seconds) / len(seconds) if seconds else 0.0
            yield answer, kind, len(seconds), len(windows), mean
