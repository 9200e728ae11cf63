"""The people of a cohort that is being made: read before any scan, written when the scans are done.

``participants.tsv`` holds a row per subject, ``splits.tsv`` whom they are kept apart by,
``samples.tsv`` what a table with a row per visit says of the single scans.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fmrilm.cohort.labels import read_participants, write_table
from fmrilm.cohort.splits import read_splits, split_subjects
from fmrilm.files import replacing
from fmrilm.studies.known import COHORTS, CohortInfo
from fmrilm.studies.phenotypes import Phenotypes, add_bins, map_phenotypes, visit_key
from fmrilm.tables.people import read_people


@dataclass(frozen=True)
class People:
    """The people with scans and what is known of them.

    Attributes
    ----------
    table : DataFrame
        ``participant_id`` and labels, one row per subject.
    visits : DataFrame
        As in :class:`Phenotypes`.
    summary : str
        How many were found in the table, in words; empty where no table was read.
    """

    table: pd.DataFrame
    visits: pd.DataFrame
    summary: str = ""


def find_people(
    folder: Path, root: Path, info: CohortInfo, subjects: Sequence[str], phenotypes: str | None
) -> People:
    """Return the people with scans, and print how many of them the table of the study knows.

    Parameters
    ----------
    folder : Path
        The cohort folder; where no table is given, rows of its ``participants.tsv`` are kept.
    root : Path
        Where the scans lie; its ``participants.tsv`` is read for people who are new.
    info : CohortInfo
        Columns and codes of the table.
    subjects : sequence of str
        Subjects with scans.
    phenotypes : str, optional
        The table of the study.

    Raises
    ------
    InputError
        If a table cannot be read, or knows none of the people.
    """
    if phenotypes is not None:
        people = _say(map_phenotypes(phenotypes, info, subjects), Path(phenotypes))
        return dataclasses.replace(people, table=_with_own_columns(people.table, folder))
    table = pd.DataFrame({"participant_id": pd.Series(dtype=str)})
    if (folder / "participants.tsv").is_file():  # the user may have added columns
        table = read_participants(folder).rename(columns={"subject_id": "participant_id"})
    new = sorted({*subjects} - {*table["participant_id"]})
    theirs = _root_table(root)
    people = People(pd.DataFrame({"participant_id": new}), pd.DataFrame())
    if new and theirs is not None:
        generic = dataclasses.replace(COHORTS["BIDS"], values=info.values, missing=info.missing)
        people = _say(map_phenotypes(theirs, generic, subjects), theirs)
        added = people.table[people.table["participant_id"].isin(new)]
        people = dataclasses.replace(people, table=added)
    # An empty table would still turn the numbers of the other into floats.
    parts = [part for part in (table, people.table) if len(part)]
    joined = pd.concat(parts, ignore_index=True) if parts else people.table
    return dataclasses.replace(people, table=joined)


def _with_own_columns(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Return the table with the columns of ``participants.tsv`` that it does not have."""
    if not (folder / "participants.tsv").is_file():
        return table
    ours = read_participants(folder).rename(columns={"subject_id": "participant_id"})
    added = ["participant_id", *(name for name in ours if name not in table)]
    return table.merge(ours[added], on="participant_id", how="left")


def _say(phenotypes: Phenotypes, source: Path) -> People:
    total = len(phenotypes.people)
    summary = f"{phenotypes.matched} of {total} people found in {source.name}"
    if phenotypes.matched < total:
        summary += f", {total - phenotypes.matched} without labels"
    for line in (summary, *phenotypes.notes):
        print(line, file=sys.stderr)
    return People(phenotypes.people, phenotypes.visits, summary)


def _root_table(root: Path) -> Path | None:
    """Return ``participants.tsv`` of the scans, or of the raw data set its derivatives lie in."""
    places: Iterator[Path] = iter([root, *root.resolve().parents[:2]])
    return next(
        (p / "participants.tsv" for p in places if (p / "participants.tsv").is_file()), None
    )


def write_participants(folder: Path, info: CohortInfo, people: People, scans: pd.DataFrame) -> None:
    """Write ``participants.tsv``, ``splits.tsv``, and what differs between visits.

    Parameters
    ----------
    folder : Path
    info : CohortInfo
    people : People
        Subjects that have a split keep it; those without a usable scan are left out.
    scans : DataFrame
        ``participant_id`` and ``session_id`` of what is in the store.
    """
    table = people.table
    table = table[table["participant_id"].isin(set(scans["participant_id"]))]
    path = folder / "splits.tsv"
    before = read_splits(path) if path.is_file() else {}
    raw = [target.removesuffix("_enc") for target in info.targets]
    stratify = [name for name in dict.fromkeys([*raw, "site"]) if name in table]
    splits = split_subjects(table, stratify, known=before)
    table, fitted = add_bins(table, dict(splits.itertuples(index=False)), info.bins)
    write_table(splits, path)
    write_table(table, folder / "participants.tsv")
    _write_visits(folder, people.visits, scans)
    if fitted:
        text = json.dumps({"fitted_on": "train", "bins": fitted}, indent=2)
        with replacing(folder / "phenotypes.json") as partial_file:
            partial_file.write_text(text + "\n", encoding="utf-8")


def _write_visits(folder: Path, visits: pd.DataFrame, scans: pd.DataFrame) -> None:
    """Add to ``samples.tsv`` what a person's visits differ in, for the scans made at a visit."""
    if visits.empty:
        return
    keys = ["participant_id", "visit"]
    differ = [
        name
        for name in visits.columns.difference(keys, sort=False)
        if visits.drop_duplicates(["participant_id", name])["participant_id"].duplicated().any()
    ]
    ids = ["participant_id", "session_id"]
    table = scans[ids].assign(visit=scans["session_id"].map(visit_key))
    told = table.merge(visits.drop_duplicates(keys)[[*keys, *differ]], on=keys, how="left")
    path = folder / "samples.tsv"
    before = read_people(path) if path.is_file() else scans[ids]
    kept = before.drop(columns=differ, errors="ignore")
    write_table(kept.merge(told.drop(columns="visit"), on=ids, how="left"), path)
