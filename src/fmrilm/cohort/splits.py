"""Train, validation and test subjects: made once, by subject, saved as ``splits.tsv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.errors import InputError
from fmrilm.tables.families import family_units
from fmrilm.tables.text import read_columns

SPLITS = ("train", "val", "test")
EVERYONE = "all"  # of a cohort that nothing was trained on, all are held out


def split_subjects(
    participants: pd.DataFrame,
    stratify: Sequence[str] = (),
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    known: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return a table (participant_id, split) with every subject in exactly one split.

    Relatives (the same ``family_id``, or another column of :mod:`fmrilm.tables.families`) go to the
    same split.

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
    families = family_units(table)
    before = dict(known or {})
    chosen = {
        family: SPLITS.index(before[subject])
        for family, subject in zip(families, table["participant_id"], strict=True)
        if subject in before
    }
    chosen, dealt = _deal(families, _strata(table, stratify), fractions, seed, chosen)
    for name, share, count in zip(SPLITS, fractions, dealt, strict=True):
        if share > 0 and count == 0:
            raise InputError(
                f"{len(table)} subjects are too few for a {name} split of share {share}"
            )
    splits = [
        before.get(subject, SPLITS[chosen[family]])
        for family, subject in zip(families, table["participant_id"], strict=True)
    ]
    return pd.DataFrame({"participant_id": table["participant_id"], "split": splits})


def deal_folds(
    participants: pd.DataFrame, count: int, stratify: Sequence[str] = (), seed: int = 0
) -> pd.DataFrame:
    """Return a table (participant_id, fold) with every subject in exactly one of ``count`` folds.

    Families stay together and strata are spread evenly, as in :func:`split_subjects`.

    Parameters
    ----------
    participants : DataFrame
        One row per subject, with the column ``participant_id``.
    count : int
        Number of folds.
    stratify : sequence of str
        Columns whose combination is spread evenly over the folds.
    seed : int
        Random seed of the shuffle.

    Raises
    ------
    InputError
        If a fold would be empty.
    """
    table = participants.drop_duplicates("participant_id").reset_index(drop=True)
    families = family_units(table)
    chosen, dealt = _deal(families, _strata(table, stratify), [1 / count] * count, seed, {})
    if (dealt == 0).any():
        raise InputError(f"{len(table)} subjects are too few for {count} folds")
    folds = [chosen[family] for family in families]
    return pd.DataFrame({"participant_id": table["participant_id"], "fold": folds})


def _deal(
    families: pd.Series,
    strata: pd.Series,
    shares: Sequence[float],
    seed: int,
    chosen: dict[str, int],
) -> tuple[dict[str, int], np.ndarray]:
    """Return the part of every family, and how many subjects each part has got.

    Families are dealt out in the order of their strata: each part takes the next one as soon as it
    lags behind its share, so every stratum is spread in proportion. ``chosen`` are those dealt
    before.
    """
    chosen, members, dealt = dict(chosen), families.value_counts(), np.zeros(len(shares))
    for family, part in chosen.items():
        dealt[part] += members[family]
    rng = np.random.default_rng(seed)
    order = np.concatenate(
        [rng.permutation(strata.index[strata == value]) for value in sorted(strata.unique())]
    )
    for row in order:
        family = families[row]
        if family in chosen:
            continue
        total = dealt.sum() + members[family]
        part = int(np.argmax(np.asarray(shares) * total - dealt))
        dealt[part] += members[family]
        chosen[family] = part
    return chosen, dealt


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
    table = read_columns(path)
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
