"""Scans that are ready to be asked about, with what was answered: in memory, not for long."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from fmrilm.asking.pipeline import Answer
from fmrilm.processing.recipes import ReadyScan


@dataclass
class HeldOrigin:
    """Where one answer comes from, with its pictures."""

    content: dict[str, Any]
    pictures: dict[str, bytes] = field(default_factory=dict)  # theme -> PNG


@dataclass
class HeldScan:
    """One scan, prepared for one run."""

    run: int
    ready: ReadyScan
    view: dict[str, Any]
    carpet: bytes
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    answers: list[Answer] = field(default_factory=list)
    origins: dict[str, HeldOrigin] = field(default_factory=dict)  # by task
    used: float = field(default_factory=time.monotonic)

    def keep(self, answer: Answer) -> None:
        """Note an answer; one to the same question gives way to it."""
        self.answers = [a for a in self.answers if a.question != answer.question] + [answer]


class Shelf:
    """The scans that are held; the one not used for longest is forgotten when there are too many.

    Parameters
    ----------
    most : int
        Scans.
    seconds : float
        After which a scan that nobody asks about is forgotten.
    """

    def __init__(self, most: int = 48, seconds: float = 3600.0) -> None:
        self.most, self.seconds = most, seconds
        self._scans: OrderedDict[str, HeldScan] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._scans)

    def put(self, scan: HeldScan) -> HeldScan:
        """Hold a scan."""
        with self._lock:
            self._forget()
            self._scans[scan.id] = scan
            while len(self._scans) > self.most:
                self._scans.popitem(last=False)
        return scan

    def get(self, name: str) -> HeldScan | None:
        """The scan with an id; None if there is none, or it was forgotten."""
        with self._lock:
            self._forget()
            scan = self._scans.get(name)
            if scan is not None:
                scan.used = time.monotonic()
                self._scans.move_to_end(name)
            return scan

    def drop(self, name: str) -> None:
        """Forget a scan."""
        with self._lock:
            self._scans.pop(name, None)

    def clear(self) -> None:
        """Forget all scans."""
        with self._lock:
            self._scans.clear()

    def _forget(self) -> None:
        limit = time.monotonic() - self.seconds
        for name in [name for name, scan in self._scans.items() if scan.used < limit]:
            del self._scans[name]
