"""The tables of a cohort of ours: ``participants.tsv`` (BIDS) and ``samples.tsv``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fmrilm.cohort.foreign import METADATA
from fmrilm.cohort.store import TimeSeriesStore
from fmrilm.errors import InputError
from fmrilm.files import replacing
from fmrilm.tables.people import read_people


def join_labels(folder: Path, store: TimeSeriesStore, participants: pd.DataFrame) -> pd.DataFrame:
    """Return the scans of a store with what is known of them and of their subjects.

    Raises
    ------
    InputError
        If ids occur twice or do not match.
    """
    table = pd.DataFrame({"subject_id": store.subjects, "session_id": store.sessions})
    unknown = sorted(set(table["subject_id"]) - set(participants["subject_id"]))
    if unknown:
        raise InputError(
            f"{folder / 'participants.tsv'} has no row for subject {unknown[0]} of the "
            f"store ({len(unknown)} missing); its participant_id holds "
            f"{', '.join(participants['subject_id'][:2])}, ...: both must have the same ids"
        )
    table = table.merge(participants, on="subject_id", how="left", validate="many_to_one")
    samples_file = folder / "samples.tsv"
    if samples_file.is_file():
        samples = _rename_subjects(read_people(samples_file))
        keys = ["subject_id", "session_id"]
        lacking = [name for name in keys if name not in samples]
        if lacking:
            raise InputError(
                f"{samples_file} has no column {lacking[0].replace('subject', 'participant')!r}"
                ": it needs participant_id and session_id, separated by tabs"
            )
        if samples.duplicated(keys).any():
            row = samples[samples.duplicated(keys)].iloc[0]
            raise InputError(
                f"{samples_file}: subject {row.subject_id} session {row.session_id} twice"
            )
        shared = [name for name in samples if name in table and name not in keys]
        joined = table.merge(
            samples, on=keys, how="left", validate="one_to_one", suffixes=("", "_scan")
        )
        for name in shared:  # what is known of the scan wins over what is known of the subject
            joined[name] = joined.pop(f"{name}_scan").fillna(joined[name])
        table = joined
    return table


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a BIDS table: tabs, ``n/a`` where a value is missing."""
    with replacing(path) as partial:
        table.to_csv(partial, sep="\t", index=False, na_rep="n/a", lineterminator="\n")


def read_participants(folder: Path) -> pd.DataFrame:
    """Return ``participants.tsv`` with the column ``subject_id``, one row per subject."""
    path = folder / "participants.tsv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} not found: write a table with participant_id, and age, sex, site and labels "
            f"(a folder of the original has {METADATA} instead)"
        )
    table = _rename_subjects(read_people(path))
    if "subject_id" not in table:
        raise InputError(
            f"{path} has no column 'participant_id'; it has: {', '.join(table.columns[:8])}: "
            "rename the column that holds the subjects"
        )
    twice = table["subject_id"][table["subject_id"].duplicated()]
    if len(twice):
        raise InputError(
            f"{path}: subject {twice.iloc[0]} occurs twice in participant_id: keep one row per "
            "subject, what changes between scans belongs in samples.tsv"
        )
    return table


def _rename_subjects(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns={"participant_id": "subject_id"})
