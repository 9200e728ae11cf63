"""How often the test people of a cohort were looked at: counted with the cohort, not with a run.

Choosing among models by their test scores makes the scores too good, whichever run they are of.
Every command that reads a test split adds a line to ``test_readings.jsonl`` in the cohort folder
(in the run folders where the cohort's cannot be written to). Readings are of the same people if
ids and series of the test split are the same; the folds of a cross-validation are counted apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.cohort.checksums import read_checksums
from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.hashing import digest, hash_files
from fmrilm.readers import check_types, read_json_lines

READINGS = "test_readings.jsonl"
UNTOUCHED = "untouched"


@dataclass(frozen=True)
class Readings:
    """Earlier readings of the test people that a cohort has now.

    Attributes
    ----------
    cohort : str
    content, split : str
        Hashes of the test scans' series, and of who they are.
    entries : list of dict
        One per earlier command, the first one first: ``time``, ``runs``, ``models``, ``tasks``.
    """

    cohort: str
    content: str
    split: str
    entries: list[dict[str, Any]]

    def line(self) -> str:
        """Return the count in one sentence."""
        count = len(self.entries)
        return (
            f"test people of {self.cohort} (content {self.content[:6]}, split {self.split[:6]}) "
            f"were read {count} time{'s' * (count != 1)} before"
        )

    def of(self, task: str, run: Path) -> dict[str, Any]:
        """Return what goes beside a result of a run: how often this was asked before, and the mark.

        Once a model has read, reading it again tells nothing new: what counts is what was read
        before it did.
        """
        own = model_of(run)
        first = next(
            (i for i, e in enumerate(self.entries) if task in e["tasks"] and own in e["models"]),
            len(self.entries),
        )
        before = self.entries[:first]
        count = sum(task in entry["tasks"] for entry in before)
        times = "once" if count == 1 else f"{count} times"
        return {
            "mark": f"looked at ({times})" if count else UNTOUCHED,
            "before": count,
            "any_task_before": len(before),
            "content": self.content,
            "split": self.split,
        }


_ENTRY = {"time": str, "split": str, "content": str, "models": list, "tasks": list}


def model_of(run: Path) -> str:
    """Return what tells a model from others: its folder and its weights."""
    return digest(str(run.resolve()), hash_files(run / "model"))


def read_readings(cohort: Cohort, runs: Sequence[Path] = ()) -> Readings:
    """Return the readings of a cohort's test people so far.

    Parameters
    ----------
    cohort : Cohort
    runs : sequence of path
        Run folders in which readings lie if the cohort's folder cannot be written to.
    """
    rows = np.flatnonzero(cohort.table["split"] == "test")
    checksums = read_checksums(cohort.store)
    content = digest(*(checksums[row] for row in rows))
    split = digest(cohort.table.iloc[rows][["subject_id", "session_id"]].to_csv(index=False))
    lines: dict[str, dict[str, Any]] = {}  # one command leaves the same line in every run folder
    for folder in (cohort.folder, *([cohort.state] if cohort.state else []), *runs):
        path = folder / READINGS
        if path.is_file():
            entries = read_json_lines(path)
            if not entries:
                raise InputError(f"{path}, which notes every look at the test people, was emptied")
            for entry in entries:
                check_types(entry, _ENTRY, path)
                lines[json.dumps(entry, sort_keys=True)] = entry
    entries = list(lines.values())
    same = [e for e in entries if (e.get("content"), e.get("split")) == (content, split)]
    return Readings(cohort.name, content, split, same)


def note_reading(cohort: Cohort, tasks: Sequence[str], runs: Sequence[Path]) -> Readings:
    """Note that a cohort's test people are looked at, say it, and return the earlier readings.

    Parameters
    ----------
    cohort : Cohort
    tasks : sequence of str
        What is asked of them.
    runs : sequence of path
        Run folders whose models are asked.
    """
    earlier = read_readings(cohort, runs)
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
        "split": earlier.split,
        "content": earlier.content,
        "runs": [str(run) for run in runs],
        "models": [model_of(run) for run in runs],
        "tasks": list(dict.fromkeys(tasks)),
    }
    is_kept_there = cohort.state == cohort.folder
    ours = [cohort.writable("readings")] if cohort.state is not None else []
    for folder in ours if is_kept_there else [*runs, *ours]:
        with (folder / READINGS).open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(entry) + "\n")
    print(earlier.line())
    if not is_kept_there:
        print(
            f"{cohort.folder} cannot be written to: the reading is noted in {READINGS} of the run, "
            "where runs that do not start from the same tokenizer do not see it"
        )
    return earlier
