"""What a job says while it runs: one progress bar for all long ones, sentences once per launch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def is_first_process() -> bool:
    """Return whether this is the only process, or the first of those a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def say(sentence: str, *, error: bool = False) -> None:
    """Print a sentence once, however many processes a launcher started.

    Parameters
    ----------
    sentence : str
    error : bool
        To stderr instead of stdout.
    """
    if is_first_process():
        print(sentence, file=sys.stderr if error else sys.stdout)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield ``items`` under a progress bar with the estimated time left (on stderr)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn, TimeRemainingColumn  # isort: skip

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=description)
