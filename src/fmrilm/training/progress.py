"""The progress bar of training: losses, epoch, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Show = Callable[[int, Callable[[], Mapping[str, float]]], None]
SECONDS = 1.0  # between two readings of the losses: each one waits for the device


@contextmanager
def training_progress(shown: bool, epochs: int, steps: int) -> Iterator[Show]:
    """Yield a function ``show(epoch, read_losses)`` to call after every update.

    On a terminal it moves a bar; into a file it writes one line per epoch. Losses are read once a
    second, and at the end of an epoch.

    Parameters
    ----------
    shown : bool
        False on all processes but the first.
    epochs, steps : int
        Epochs in all, and updates in one.
    """
    console = Console(stderr=True)
    done, last_read, text = 0, float("-inf"), ""
    with Progress(
        TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
        console=console,
        disable=not shown or not console.is_terminal,
    ) as bar:
        task = bar.add_task("train", total=epochs * steps, epoch=1, losses="")

        def show(epoch: int, read_losses: Callable[[], Mapping[str, float]]) -> None:
            nonlocal done, last_read, text
            done += 1
            if done % steps == 0 or time.monotonic() - last_read >= SECONDS:
                losses, last_read = read_losses(), time.monotonic()
                text = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
            bar.update(task, completed=epoch * steps + (done - 1) % steps + 1)
            bar.update(task, epoch=epoch + 1, losses=text)
            if shown and not console.is_terminal and done % steps == 0:
                console.print(f"epoch {epoch + 1}/{epochs}  {text}", highlight=False)

        yield show
