"""Scores of an evaluation that was interrupted, so that the next one goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

FOLDER = "unfinished"


class ScoreLog:
    """What a model answered so far, one JSON line each; exact, and safe against being killed.

    Parameters
    ----------
    path : path
        Read if it exists; a last line that was cut off is dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Any] = {}
        if path.is_file():
            whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
            path.write_text(whole + "\n" if whole else "", encoding="utf-8")
            self._known = dict(json.loads(line) for line in whole.splitlines())

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Hashable) -> Any:
        """Return what was answered; None if it was not."""
        return self._known.get(_digest(key))

    def add(self, pairs: list[tuple[Hashable, Any]]) -> None:
        """Keep answers, and write them to disk at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for key, value in pairs:
            self._known[_digest(key)] = value
            lines.append(json.dumps([_digest(key), value]) + "\n")
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write("".join(lines))

    def remove(self) -> None:
        """Forget everything, once the evaluation is complete."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()


def _digest(key: Hashable) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()[:24]


def log_path(folder: Path, model_folder: Path, cohort: str, fingerprint: str) -> Path:
    """Return where the answers of one model on one cohort are kept until they are complete.

    The name changes with the weights (names, sizes and times of the files) and the cohort.
    """
    files = sorted(path for path in model_folder.rglob("*") if path.is_file())
    about = [
        (str(path.relative_to(model_folder)), path.stat().st_size, path.stat().st_mtime_ns)
        for path in files
    ]
    return folder / FOLDER / f"{cohort}_{_digest((about, fingerprint))}.jsonl"
