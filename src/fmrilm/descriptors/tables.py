"""Descriptor tables on disk: ours, and the original fMRI-LM's as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from fmrilm.errors import InputError
from fmrilm.readers import read_table as read_csv

IDS = ("subject_id", "session_id")
TEXTS = ("summary_rewritten", "summary")  # the original's rewording, where it has one, comes first

# Columns of the original -> our measures; {a} and {b} stand for networks. Its FC is a mean of r,
# its gradients are unsigned against ours, its efficiency is that of the binary graph.
_RENAMED = {
    "avg_clustering": "average_clustering",
    "strength_{a}": "strength__{a}",
    "gradient{k}_var": "gradient{k}_variance",
    "gradient{k}_{a}_mean": "gradient{k}__{a}",
    "{a}-{b}": "fc__{a}__{b}",
}


def read_table(path: str | Path) -> pd.DataFrame:
    """Return a descriptor table with our column names, one row per subject and session.

    Parameters
    ----------
    path : path
        ``<family>_descriptors.csv``, of `fmrilm describe` or of the original.

    Returns
    -------
    DataFrame
        ``subject_id`` and ``session_id`` as text (session ``1`` where the file has none), measures
        and ``<measure>_z`` under our names where we have the measure, ``summary``: the rewritten
        text of the original where there is one, else its template text.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If it has no subject or no text column, or a subject and session occur twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: run `fmrilm describe` first")
    table = read_csv(path, ",", remedy="run `fmrilm describe` again", dtype=dict.fromkeys(IDS, str))
    if "subject_id" not in table:
        raise InputError(f"{path} has no column subject_id")
    if "session_id" not in table:
        table.insert(1, "session_id", "1")
    texts = [name for name in TEXTS if name in table]
    if not texts:
        raise InputError(f"{path} has no column summary")
    summary = table[texts[0]]
    for name in texts[1:]:
        summary = summary.fillna(table[name])
    table = table.drop(columns=texts).assign(summary=summary.fillna(""))
    twice = table[table.duplicated(list(IDS))]
    if len(twice):
        row = twice.iloc[0]
        raise InputError(f"{path}: subject {row.subject_id} session {row.session_id} occurs twice")
    return table.rename(columns={name: our_name(name) for name in table.columns})


def our_name(column: str) -> str:
    """Return our name of a column of the original; a column we do not know keeps its name.

    Examples
    --------
    >>> our_name("Vis-Default_z"), our_name("gradient1_Vis_mean"), our_name("modularity")
    ('fc__Vis__Default_z', 'gradient1__Vis', 'modularity')
    """
    stem, mark = (column[:-2], "_z") if column.endswith("_z") else (column, "")
    for theirs, ours in _RENAMED.items():
        pattern = re.escape(theirs).replace(r"\{", "{").replace(r"\}", "}")
        for letter, allowed in (("a", "[A-Za-z]+"), ("b", "[A-Za-z]+"), ("k", "[1-3]")):
            pattern = pattern.replace(f"{{{letter}}}", f"(?P<{letter}>{allowed})")
        found = re.fullmatch(pattern, stem)
        if found:
            return ours.format(**found.groupdict()) + mark
    return column


def join_families(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the measures and z of several families, joined by subject and session.

    ``summary`` holds the families' texts in the order of ``tables``; a scan that a family lacks
    has NaN there.
    """
    joined = tables[0].set_index(list(IDS))
    for table in tables[1:]:
        other = table.set_index(list(IDS))
        both = joined.join(other, how="outer", rsuffix="_other")
        first = both["summary"].fillna("")
        both["summary"] = (first + " " + both["summary_other"].fillna("")).str.strip()
        extra = [name for name in both.columns if name.endswith("_other")]
        joined = both.drop(columns=extra)
    return joined.reset_index()
