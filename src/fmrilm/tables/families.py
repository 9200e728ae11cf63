"""Who belongs together: relatives, by the family columns of a participants table."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

# Without case and punctuation: HCP's Family_ID, Mother_ID, Father_ID; ABCD's rel_family_id
FAMILY_COLUMNS = frozenset(
    {
        "family", "familyid", "famid", "relfamilyid", "relfamily", "mother", "motherid",
        "father", "fatherid", "twin", "twinid", "twinpair", "twinpairid", "pair", "pairid",
        "siblings", "siblingsid", "sibship", "household", "householdid", "pedigree",
        "pedigreeid", "pedid"
    }
)  # fmt: skip


def family_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that name a family, a parent or a twin pair."""
    return [
        str(name)
        for name in table.columns
        if re.sub(r"[^a-z]", "", str(name).lower()) in FAMILY_COLUMNS
    ]


def family_units(table: pd.DataFrame, subject: str = "participant_id") -> pd.Series:
    """Return the unit of every row that must not be divided: the family, else the subject.

    Rows are of one family if they share a value of any family column, directly or through others.
    Missing values and negative numbers (codes for unknown) tie nobody.

    Parameters
    ----------
    table : DataFrame
    subject : str
        Column of the subjects.

    Returns
    -------
    units : Series of str
        ``family <value>`` or ``subject <id>``, with the index of the table.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names = [str(name) for name in table[subject]]
    nodes: dict[tuple[str, str], int] = {}
    left, right = [], []
    first: dict[int, str] = {}
    for row, name in enumerate(names):
        left.append(row)
        right.append(len(names) + nodes.setdefault((subject, name), len(nodes)))
    for column in family_columns(table):
        values = table[column]
        numbers = pd.to_numeric(values, errors="coerce")
        usable = values.notna() & ~(numbers < 0)
        for row in np.flatnonzero(usable).tolist():
            key = (column, str(values.iloc[row]))
            left.append(row)
            right.append(len(names) + nodes.setdefault(key, len(nodes)))
            first.setdefault(row, f"family {key[1]}")
    size = len(names) + len(nodes)
    graph = coo_array((np.ones(len(left)), (left, right)), shape=(size, size))
    _, found = connected_components(graph, directed=False)
    words: dict[int, str] = {}
    for row, unit in enumerate(found[: len(names)].tolist()):
        if row in first:
            words.setdefault(unit, first[row])
    taken: dict[str, int] = {}
    units = []
    for row, unit in enumerate(found[: len(names)].tolist()):
        word = words.get(unit, f"subject {names[row]}")
        if (
            taken.setdefault(word, unit) != unit
        ):  # e.g. the mother of one family, the father of another
            word = f"{word} ({unit})"
        units.append(word)
    return pd.Series(units, index=table.index)
