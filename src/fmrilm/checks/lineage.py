"""What a run and its parents have seen, compared with the cohorts it is to be evaluated on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.checks.finding import Finding
from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.told import AUTO
from fmrilm.config.schema import load_config
from fmrilm.lineage.fingerprints import Fingerprints, match
from fmrilm.lineage.trained_on import TRAINED_ON_FILE, State, read_states, read_trained_on
from fmrilm.run_record import find_parent, read_lineage

SAME_PEOPLE = 0.5  # share of common ids from which two cohorts are taken to hold the same people


class _Present:
    """What the cohorts hold now, read once for all stages."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self.test_rows = np.flatnonzero(cohort.table["split"] == "test")
        self.test = set(cohort.table["subject_id"].iloc[self.test_rows].astype(str))
        self._state: State | None = None
        self._test_prints: Fingerprints | None = None

    @property
    def state(self) -> State:
        self._state = self._state or State.of(self.cohort)
        return self._state

    @property
    def test_prints(self) -> Fingerprints:
        if self._test_prints is None:
            self._test_prints = Fingerprints.of(self.cohort.store, self.test_rows)
        return self._test_prints


def check_lineage(run: Path, cohorts: list[Cohort]) -> list[Finding]:
    """Test scans that the run or one of its parents has seen; what changed since; lost parents.

    Parameters
    ----------
    run : Path
        Run folder with ``lineage.json``.
    cohorts : list of Cohort
        What it is evaluated on.
    """
    present = [_Present(cohort) for cohort in cohorts]
    findings: list[Finding] = []
    for folder, lineage in _ancestors(run):
        stage = f"stage {lineage.get('stage', folder.name)} ({folder})"
        seen, states = read_trained_on(folder), read_states(folder)
        for one in present:
            if seen is None:
                findings += _by_fingerprint(stage, folder, lineage, one.cohort)
                continue
            findings += _seen(stage, seen, states, one)
            if states is not None and one.cohort.name in states:
                findings += _changed(stage, states[one.cohort.name], one)
    return findings


def told_columns(run: Path) -> list[str]:
    """Return the participant columns in a run's prompts (``instruct.add_desc``)."""
    path = run / "config.yaml"
    if not path.is_file():
        return []
    # "auto" is no column: what it tells is sifted for every task
    return [name for name in load_config([path]).instruct.add_desc if name != AUTO]


def _seen(
    stage: str, seen: pd.DataFrame, states: dict[str, State] | None, present: _Present
) -> Iterator[Finding]:
    """Test people of the cohort among those of the stage: by id, and by what their scans hold."""
    cohort = present.cohort
    own = set(seen.loc[seen["cohort"] == cohort.name, "participant_id"])
    both = sorted(present.test & own)
    if both:
        yield Finding(
            "test_seen_in_training",
            "error",
            f"{stage} has seen {len(both)} test subjects of {cohort.name}",
            "train the stage again on the present splits, or evaluate on other people",
            both,
        )
        return
    for name, rows in seen.groupby("cohort"):
        ids = set(rows["participant_id"])
        common = sorted(present.test & ids)
        copies: list[str] = []
        if states is not None and name in states:
            found = match(states[str(name)].seen, present.test_prints)
            subjects = cohort.table["subject_id"].iloc[present.test_rows[found]]
            copies = sorted(set(subjects.astype(str)))
        if copies:
            yield Finding(
                "test_scans_seen_in_training",
                "error",
                f"{stage} has seen scans of {len(copies)} test subjects of {cohort.name}, in the "
                f"cohort {name}",
                "train the stage again without these people, or evaluate on other people",
                copies,
            )
        elif name != cohort.name and len(common) > SAME_PEOPLE * len(present.test):
            yield Finding(
                "test_ids_seen_in_training",
                "note",
                f"{stage} has seen {len(common)} subjects of the cohort {name} that have the ids "
                f"of test subjects of {cohort.name}",
                "make sure that they are other people, or give all their scans to one split",
                common,
            )
    if states is None:
        yield Finding(
            "content_not_compared",
            "note",
            f"{stage} keeps no fingerprints of its scans: only ids were compared",
            "train the stage again to have its scans compared by content",
        )


def _changed(stage: str, before: State, present: _Present) -> Iterator[Finding]:
    """Scans and participants' values that are not those the stage was trained with."""
    cohort, now = present.cohort, present.state
    common = before.checksums.index.intersection(now.checksums.index)
    differ = before.checksums.loc[common].to_numpy() != now.checksums.loc[common].to_numpy()
    if differ.any():
        yield Finding(
            "scans_changed",
            "error",
            f"{differ.sum()} of {len(common)} scans of {cohort.name} are not those that {stage} "
            "was trained with",
            "put the scans back, or train the stage again on the present ones",
            [" ".join(key) for key in common[differ]],
        )
    for name in (column for column in before.values if column in now.values):
        old, new = (part.values.loc[common, name].to_numpy() for part in (before, now))
        if (old != new).any():
            yield Finding(
                "labels_changed",
                "error",
                f"{(old != new).sum()} of {len(common)} scans of {cohort.name} have another {name} "
                f"than when {stage} was trained",
                "put the table back, or train the stage again with the present one",
                [" ".join(key) for key in common[old != new]],
            )


def _by_fingerprint(stage: str, folder: Path, lineage: dict, cohort: Cohort) -> Iterator[Finding]:
    """A stage that does not name its scans: by the state of the whole cohort."""
    before = lineage.get("cohorts", {}).get(cohort.name)
    if before is None or before["fingerprint"] == cohort.fingerprint():
        return  # it did not see this cohort, or with these very splits
    yield Finding(
        "splits_changed",
        "error",
        f"{stage} was trained on another state of {cohort.name} and has no {TRAINED_ON_FILE}: its "
        "test scans may have been seen",
        "train the stage again on the present splits",
        [str(folder)],
    )


def _ancestors(run: Path) -> Iterator[tuple[Path, dict]]:
    """Yield the run and its parents with their ``lineage.json``."""
    folder: Path | None = run
    while folder is not None:
        lineage = read_lineage(folder)
        yield folder, lineage
        folder = find_parent(lineage)
