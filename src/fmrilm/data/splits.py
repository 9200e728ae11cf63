"""Train, validation and test subjects: made once, by subject, saved as ``splits.tsv``."""

from __future__ import annotations

from collections.abc import Sequence
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
) -> pd.DataFrame:
    """Return a table (participant_id, split) with every subject in exactly one split.

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

    Raises
    ------
    InputError
        If a split would be empty.
    """
    table = participants.drop_duplicates("participant_id").reset_index(drop=True)
    strata = pd.Series("", index=table.index)
    for column in stratify:
        values = table[column]
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 10:
            values = pd.qcut(values, 4, labels=False, duplicates="drop")
        strata = strata + "|" + values.astype(str)
    sizes = strata.map(strata.value_counts())
    strata = strata.where(sizes >= 10, "pooled")
    rng = np.random.default_rng(seed)
    order = np.concatenate(
        [rng.permutation(table.index[strata == value]) for value in sorted(strata.unique())]
    )
    # Deal the subjects out in the order of their strata: each split takes the next subject as soon
    # as it lags behind its share, so every stratum is spread in proportion.
    dealt = np.zeros(3)
    splits = np.empty(len(table), dtype=object)
    for position, row in enumerate(order, start=1):
        choice = int(np.argmax(np.asarray(fractions) * position - dealt))
        dealt[choice] += 1
        splits[row] = SPLITS[choice]
    empty = [name for name, share in zip(SPLITS, fractions, strict=True) if share > 0]
    empty = [name for name in empty if name not in splits]
    if empty:
        raise InputError(
            f"{len(table)} subjects are too few for a {empty[0]} split of share "
            f"{fractions[SPLITS.index(empty[0])]}"
        )
    return pd.DataFrame({"participant_id": table["participant_id"], "split": splits})


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
