"""One process writes into a folder at a time; the lock of a process that is gone is taken over."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fmrilm.errors import InputError
from fmrilm.files import LOCK
from fmrilm.readers import read_json


@contextmanager
def writing(folder: str | Path) -> Iterator[None]:
    """Hold a folder while it is written to. Processes started by this one may write too.

    Parameters
    ----------
    folder : path
        Made if it is not there.

    Raises
    ------
    InputError
        If another process holds it, on this machine or another.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    if path.exists():
        left = check_free(folder)
        if left is None:  # this process holds it, further up
            yield
            return
        _tell(f"{left}, which has ended: taken over")
        path.unlink(missing_ok=True)
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
    try:
        with path.open("x", encoding="utf-8") as handle:
            json.dump(owner, handle)
    except FileExistsError:
        raise InputError(f"another process has just begun to write into {folder}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


_MARKS = {"lineage.json": "run", "data_resampled.h5": "cohort"}


def check_kind(folder: Path, kind: str) -> None:
    """Raise :class:`InputError` if a folder holds a cohort and is to hold a run, or vice versa."""
    for mark, other in _MARKS.items():
        if other != kind and (folder / mark).exists():
            raise InputError(f"{folder} holds a {other}: give another folder for the {kind}")


def check_free(folder: Path) -> str | None:
    """Raise :class:`InputError` if another process writes into a folder.

    Returns
    -------
    left_by : str or None
        Who held it and has ended, in words; None if this process holds it, or nobody did.
    """
    path = folder / LOCK
    if not path.exists():
        return None
    owner = read_json(path, "delete it if nothing writes into its folder")
    who = f"{folder} is written to by process {owner.get('pid')} on {owner.get('host')}"
    if owner.get("host") != socket.gethostname():
        raise InputError(f"{who}: wait for it, or delete {path} if it has ended")
    if owner.get("pid") == os.getpid():
        return None
    if _is_alive(owner):
        raise InputError(f"{who}: wait for it, or write into another folder")
    return who


def _tell(line: str) -> None:
    from rich.console import Console

    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether the process that made a lock runs; not another that was given its number later."""
    import psutil

    try:
        return psutil.Process(int(owner["pid"])).create_time() <= float(owner["started"])
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
