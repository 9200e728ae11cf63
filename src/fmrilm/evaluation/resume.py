"""Scores of an evaluation that was interrupted, so that the next one goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmrilm.hashing import digest, hash_code, hash_files
from fmrilm.readers import read_file, reading

if TYPE_CHECKING:
    from fmrilm.cohort.cohort import Cohort

FOLDER = "unfinished"
_CODE = ("fmrilm.lm", "fmrilm.tokenizer", "fmrilm.evaluation", "fmrilm.stats", "fmrilm.tasks")


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
            remedy = "delete it, the answers are asked again"
            whole = read_file(path, remedy).rpartition("\n")[0]
            path.write_text(whole + "\n" if whole else "", encoding="utf-8")
            with reading(path, remedy):
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
        """Forget everything once the evaluation is complete, also what no longer holds."""
        cohort = self.path.name.rpartition("_")[0]
        for path in self.path.parent.glob("*_*.jsonl"):
            if path.name.rpartition("_")[0] == cohort:
                path.unlink()
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()


def _digest(key: Hashable) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()[:24]


def log_path(folder: Path, model_folder: Path, cohort: Cohort, points: int, length: str) -> Path:
    """Return where the answers of one model on one cohort are kept until they are complete.

    The name changes with the weights, with any scan or its scaling, with how scans are clipped or
    padded, and with the code that asks and scores; prompt and candidates are part of each key.

    Parameters
    ----------
    folder : path
        Of the evaluation.
    model_folder : path
    cohort : Cohort
    points : int
        Time points the model reads.
    length : str
        ``data.length`` of the model.
    """
    data = cohort.fingerprints()
    about = [hash_files(model_folder), hash_code(*_CODE), data["scans"], data["scaling"]]
    return folder / FOLDER / f"{cohort.name}_{digest(*about, str(points), length)}.jsonl"


def sources(model_folder: Path, cohorts: Sequence[Cohort]) -> dict[str, Any]:
    """Return hashes of a model's weights, of the code, and of what some cohorts hold by name."""
    return {
        "model": hash_files(model_folder),
        "code": hash_code(*_CODE),
        "cohorts": {cohort.name: cohort.fingerprints() for cohort in cohorts},
    }
