"""Train, validation and test subjects: made once, by subject, saved as ``splits.tsv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.errors import InputError

SPLITS = ("train", "val", "test")


def split_subjects(
    participants: pd.DataFrame,
    stratify: Sequence[str] = (),
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    known: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return a table (participant_id, split) with every subject in exactly one split.

    Subjects of the same ``family_id`` (if there is such a column) go to the same split.

    Parameters
    ----------
    participants : DataFrame
        One row per subject, with the column ``participant_id``.
    stratify : sequence of str
        Columns whose combination is spread evenly over the splits; numbers with more than ten
        values are cut at their quartiles. Combinations of fewer than ten subjects are pooled.
    fractions : tuple of float
        Shares of train, val and test; they add up to 1.
    seed : int
        Of the shuffle.
    known : mapping of str to str, optional
        Splits made before: these subjects stay where they are, and their families join them.

    Raises
    ------
    InputError
        If a split would be empty.
    """
    table = participants.drop_duplicates("participant_id").reset_index(drop=True)
    families = _families(table)
    strata = _strata(table, stratify)
    before = dict(known or {})
    chosen = {
        family: before[subject]
        for family, subject in zip(families, table["participant_id"], strict=True)
        if subject in before
    }
    members = families.value_counts()
    dealt = np.zeros(len(SPLITS))
    for family, split in chosen.items():
        dealt[SPLITS.index(split)] += members[family]
    rng = np.random.default_rng(seed)
    order = np.concatenate(
        [rng.permutation(table.index[strata == value]) for value in sorted(strata.unique())]
    )
    # Deal the families out in the order of their strata: each split takes the next one as soon as
    # it lags behind its share, so every stratum is spread in proportion.
    for row in order:
        family = families[row]
        if family in chosen:
            continue
        total = dealt.sum() + members[family]
        choice = int(np.argmax(np.asarray(fractions) * total - dealt))
        dealt[choice] += members[family]
        chosen[family] = SPLITS[choice]
    for name, share, count in zip(SPLITS, fractions, dealt, strict=True):
        if share > 0 and count == 0:
            raise InputError(
                f"{len(table)} subjects are too few for a {name} split of share {share}"
            )
    splits = [
        before.get(subject, chosen[family])
        for family, subject in zip(families, table["participant_id"], strict=True)
    ]
    return pd.DataFrame({"participant_id": table["participant_id"], "split": splits})


def _families(table: pd.DataFrame) -> pd.Series:
    """Return the unit that must not be divided: the family, else the subject."""
    alone = "subject " + table["participant_id"].astype(str)
    if "family_id" not in table:
        return alone
    return ("family " + table["family_id"].astype(str)).where(table["family_id"].notna(), alone)


def _strata(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    strata = pd.Series("", index=table.index)
    for column in columns:
        values = table[column]
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 10:
            values = pd.qcut(values, 4, labels=False, duplicates="drop")
        strata = strata + "|" + values.astype(str)
    sizes = strata.map(strata.value_counts())
    return strata.where(sizes >= 10, "pooled")


def read_splits(path: str | Path) -> dict[str, str]:
    """Return the split of every subject.

    Raises
    ------
    InputError
        If a subject is in two splits, or a split has another name than train, val or test.
    """
    table = pd.read_csv(path, sep="\t", dtype=str)
    missing = {"participant_id", "split"} - set(table.columns)
    if missing:
        raise InputError(f"{path} has no column {sorted(missing)[0]!r}")
    wrong = set(table["split"]) - set(SPLITS)
    if wrong:
        raise InputError(f"{path}: unknown split {sorted(map(str, wrong))[0]!r}, use {SPLITS}")
    twice = table["participant_id"][table["participant_id"].duplicated()]
    if len(twice):
        raise InputError(f"{path}: subject {twice.iloc[0]} occurs twice")
    return dict(zip(table["participant_id"], table["split"], strict=True))
