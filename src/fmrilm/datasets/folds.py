"""Grouped folds: copies of a cohort with their own splits, in which every person is tested once.

A fold is a cohort folder like any other: scaling, descriptions, audits and readings of its test
people are its own. The series are linked, not copied.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from fmrilm.cohort.cohort import STORE_FILE, read_info, write_info
from fmrilm.cohort.labels import read_participants, write_table
from fmrilm.cohort.splits import deal_folds, read_splits, split_subjects
from fmrilm.errors import InputError
from fmrilm.readers import read_table, read_yaml, reading

FOLD_FILE = "fold.yaml"
VAL_SHARE = 0.15  # of the people who are not tested
_SHARED = (STORE_FILE, "participants.tsv", "samples.tsv", "atlas.tsv", "planted_effects.json")


@dataclass(frozen=True)
class Fold:
    """Which fold a cohort folder is (``fold.yaml``)."""

    fold: int  # from 0
    of: int
    seed: int
    table: str  # hash of who is tested in which fold


def make_folds(folder: Path, *, count: int = 5, seed: int = 0) -> list[Path]:
    """Write grouped folds of a cohort: every person is in the test split of exactly one.

    The folds are cohort folders ``<cohort>/folds/<count>-seed-<seed>/fold-<k>``; who is tested in
    which is dealt once and kept in ``folds.tsv`` there. Families stay together, sites and targets
    are spread evenly; 15% of the other people of each fold are its validation split.

    Parameters
    ----------
    folder : path
        The cohort's folder.
    count : int
        Number of folds.
    seed : int
        Random seed of the dealing.

    Returns
    -------
    folders : list of Path
        One cohort folder per fold.

    Raises
    ------
    InputError
        If there are too few people, or folds made before do not fit the present cohort.

    Examples
    --------
    fmrilm folds data/pain/stimulus --count 5
    """
    if count < 2:
        raise InputError(f"count is {count}: give two or more folds")
    info = read_info(folder)
    people = read_participants(folder).rename(columns={"subject_id": "participant_id"})
    if count > len(people):
        raise InputError(f"{len(people)} subjects are too few for {count} folds: give fewer")
    stratify = [name for name in (*info.targets, "site") if name in people.columns]
    target = folder / "folds" / f"{count}-seed-{seed}"
    target.mkdir(parents=True, exist_ok=True)
    path = target / "folds.tsv"
    if not path.is_file():
        write_table(deal_folds(people, count, stratify, seed), path)
    table = read_table(path, needed=("participant_id", "fold"), dtype={"participant_id": str})
    if set(table["participant_id"]) != set(people["participant_id"]):
        raise InputError(
            f"{path} and {folder / 'participants.tsv'} name different people: delete {target} to "
            "have the folds dealt anew"
        )
    mark = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    made = []
    for fold in range(count):
        place = target / f"fold-{fold}"
        place.mkdir(exist_ok=True)
        for name in _SHARED:
            if (folder / name).is_file():
                _link(folder / name, place / name)
        write_info(place, info)
        _write_splits(place / "splits.tsv", table, people, stratify, (fold, seed))
        text = yaml.safe_dump(vars(Fold(fold, count, seed, mark)), sort_keys=False)
        (place / FOLD_FILE).write_text(text, encoding="utf-8")
        made.append(place)
        print(place)
    return made


def read_fold(folder: Path) -> Fold | None:
    """Return which fold a cohort folder is; None if it is none."""
    path = folder / FOLD_FILE
    if not path.is_file():
        return None
    with reading(path, "make the folds again"):
        return Fold(**read_yaml(path))


def _link(source: Path, place: Path) -> None:
    if place.exists():
        same = place.samefile(source) or place.read_bytes() == source.read_bytes()
        if not same:
            raise InputError(
                f"{place} is of another state of the cohort than {source}: delete the folder "
                f"{place.parent.parent} to have the folds made anew"
            )
        return
    try:
        os.link(source, place)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, place)


def _write_splits(
    path: Path,
    table: pd.DataFrame,
    people: pd.DataFrame,
    stratify: list[str],
    fold_and_seed: tuple[int, int],
) -> None:
    """Write the splits of one fold; refuse to change those that are there."""
    fold, seed = fold_and_seed
    tested = set(table.loc[table["fold"] == fold, "participant_id"])
    others = people[~people["participant_id"].isin(tested)]
    shares = (1 - VAL_SHARE, VAL_SHARE, 0.0)
    splits = split_subjects(others, stratify, shares, seed + fold)
    chosen = dict(zip(splits["participant_id"], splits["split"], strict=True))
    chosen |= dict.fromkeys(tested, "test")
    if path.is_file():
        if read_splits(path) != chosen:
            raise InputError(
                f"{path} is not what the folds say: delete the folder {path.parent.parent} to have "
                "them made anew"
            )
        return
    names = people["participant_id"]
    write_table(pd.DataFrame({"participant_id": names, "split": names.map(chosen)}), path)
