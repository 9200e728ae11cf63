"""From a study's table of participants to ours: columns, codes, bins; what is missing stays so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.data.cohorts import CohortInfo
from fmrilm.errors import InputError

_MISSING = ["n/a", "N/A", "NA", "NaN", "nan", "", " ", "-999", "-9999", "pending", "None"]


def map_phenotypes(path: str | Path, info: CohortInfo, subjects: list[str]) -> pd.DataFrame:
    """Return a ``participants.tsv`` table, one row per subject.

    Parameters
    ----------
    path : path
        TSV or CSV file. The columns named in ``info.columns`` are renamed, all others are kept if
        the cohort maps none but the subject.
    info : CohortInfo
        Column names, codes, factors and thresholds.
    subjects : list of str
        Subjects of the store. They are matched to the table without ``sub-``, punctuation and
        leading zeros; a subject without a row gets missing values.

    Raises
    ------
    FileNotFoundError
        If there is no such table.
    InputError
        If a mapped column is absent, ids are ambiguous, or a factor meets text.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: give the table of participants")
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    raw = pd.read_csv(path, sep=separator, dtype=str, na_values=_MISSING, keep_default_na=False)
    columns = {"subject": "participant_id", **info.columns}
    if columns["subject"] not in raw:
        raise InputError(
            f"{path} has no column {columns['subject']!r} with the subjects; it has: "
            f"{', '.join(raw.columns[:8])}: map it with columns: {{subject: NAME}}"
        )
    raw = raw.dropna(subset=[columns["subject"]])
    keys = raw[columns["subject"]].map(subject_key)
    twice = keys[keys.duplicated()]
    if len(twice):
        raw, keys = _first_rows(raw, keys, path)
    table = pd.DataFrame({"participant_id": subjects})
    rows = pd.Series(subjects).map(subject_key)
    if rows.duplicated().any():
        raise InputError(f"subjects {subjects[0]}, ... are the same without punctuation and zeros")
    raw.index = pd.Index(keys)
    found = raw.reindex(rows).reset_index(drop=True)
    optional = set(_optional(info))
    for ours, theirs in columns.items():
        if ours == "subject":
            continue
        if theirs not in raw:
            if ours in optional:
                continue
            raise InputError(f"{path} has no column {theirs!r} (for {ours}): see columns: in YAML")
        table[ours] = _convert(found[theirs], ours, info, path)
    if set(info.columns) <= {"subject", "sex", "age", "site"}:  # a cohort without a mapping
        taken = {*columns.values(), *table.columns}
        for name in raw.columns:
            if name not in taken:
                table[name] = _number_if_all(found[name])
    return table


def subject_key(subject: str) -> str:
    """Return an id without ``sub-``, punctuation and leading zeros.

    Examples
    --------
    >>> subject_key("sub-002S0295") == subject_key("002_S_0295")
    True
    """
    plain = re.sub(r"[^A-Za-z0-9]", "", re.sub(r"^sub-", "", subject.strip()))
    return plain.lstrip("0") or "0"


def _optional(info: CohortInfo) -> list[str]:
    """Return the columns a table may lack: those of the generic BIDS cohort."""
    return ["sex", "age", "site"] if info.name == "BIDS" else []


def _first_rows(raw: pd.DataFrame, keys: pd.Series, path: Path) -> tuple[pd.DataFrame, pd.Series]:
    """Return one row per subject, refusing subjects whose rows differ."""
    for key, rows in raw.groupby(keys):
        differ = [name for name in rows if len(set(rows[name].dropna())) > 1]
        if differ:
            raise InputError(
                f"{path}: subject {key} has {len(rows)} rows with different {differ[0]!r}: "
                "keep one row per subject, and put what changes between sessions into samples.tsv"
            )
    first = ~keys.duplicated()
    return raw[first], keys[first]


def _convert(values: pd.Series, name: str, info: CohortInfo, path: Path) -> pd.Series:
    if name in info.values:
        codes = {str(key): value for key, value in info.values[name].items()}
        plain = values.map(lambda v: re.sub(r"\.0$", "", v.strip()) if isinstance(v, str) else v)
        return plain.map(codes)  # a code that is not listed is missing, e.g. MCI among CN and AD
    converted = _number_if_all(values)
    is_number = name in info.factors or name in info.thresholds or name in info.bins
    if is_number and not pd.api.types.is_numeric_dtype(converted):
        raise InputError(f"{path}: column {info.columns[name]!r} holds text, expected numbers")
    if name in info.factors:
        return (converted * info.factors[name]).round(2)
    if name in info.thresholds:
        above = (converted > info.thresholds[name]).astype(float)
        return above.where(converted.notna())
    return converted


def _number_if_all(values: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers if numbers.notna().sum() == values.notna().sum() else values


def add_bins(
    table: pd.DataFrame, splits: dict[str, str], bins: list[str]
) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    """Add ``<name>_enc``: 0 below -1, 2 above 1, else 1, in z units of the training subjects.

    Returns
    -------
    table : DataFrame
    fitted : dict
        Column -> ``mean`` and ``sd`` of the training subjects.

    Raises
    ------
    InputError
        If a column is constant or missing among the training subjects.
    """
    table, fitted = table.copy(), {}
    train = table["participant_id"].map(splits) == "train"
    for name in bins:
        if name not in table:
            continue
        known = table.loc[train, name].dropna()
        mean, sd = known.mean(), known.std(ddof=0)
        if not sd > 0:
            raise InputError(f"{name} cannot be binned: it does not vary in the training subjects")
        z = (table[name] - mean) / sd
        levels = np.where(z < -1, 0.0, np.where(z > 1, 2.0, 1.0))
        table[f"{name}_enc"] = pd.Series(levels, index=table.index).where(z.notna())
        fitted[f"{name}_enc"] = {"mean": float(mean), "sd": float(sd)}
    return table, fitted
