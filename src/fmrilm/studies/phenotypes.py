"""From a study's table of participants to ours: columns, codes, bins; what is missing stays so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.errors import InputError
from fmrilm.studies.known import CohortInfo
from fmrilm.tables.people import read_sex, suspicious_codes, tidy
from fmrilm.tables.text import read_columns

_MAPPED = {"subject", "session", "sex", "age", "site"}  # a cohort that maps no more keeps the rest


@dataclass(frozen=True)
class Phenotypes:
    """What a study's table says of the people of a store.

    Attributes
    ----------
    people : DataFrame
        ``participant_id`` and our columns, one row per subject.
    visits : DataFrame
        ``participant_id``, ``visit`` and our columns, one row per visit; empty where the table has
        a row per subject.
    matched : int
        Subjects that have a row in the table.
    notes : list of str
        What should be looked at.
    """

    people: pd.DataFrame
    visits: pd.DataFrame
    matched: int
    notes: list[str] = field(default_factory=list)


def map_phenotypes(path: str | Path, info: CohortInfo, subjects: Sequence[str]) -> Phenotypes:
    """Return what a table says of some subjects, in our columns and codes.

    Parameters
    ----------
    path : path
        Text file with a header; see :mod:`fmrilm.tables.text`. The columns named in
        ``info.columns`` are renamed, all others are kept if the cohort maps none but subject, sex,
        age and site.
    info : CohortInfo
        Column names, codes, factors and thresholds. With a column for ``session`` the table may
        have a row per visit: people get the values of their first visit.
    subjects : sequence of str
        Subjects of the store. They are matched to the table by :func:`subject_key`; a subject
        without a row gets missing values.

    Raises
    ------
    FileNotFoundError
        If there is no such table.
    InputError
        If a mapped column is absent, ids are ambiguous, no subject has a row, or a factor meets
        text.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: give the table of participants")
    raw = read_columns(path)
    columns = _find_columns(raw, info, path)
    raw = raw.loc[raw[columns["subject"]] != "", raw.columns != ""]
    keys = raw[columns["subject"]].map(subject_key)
    rows = pd.Series(list(subjects), dtype=object).map(subject_key)
    if rows.duplicated().any():
        again = rows[rows.duplicated()].iloc[0]
        twice = [name for name, key in zip(subjects, rows, strict=True) if key == again]
        raise InputError(f"subjects {twice[0]} and {twice[1]} are the same without punctuation")
    known = rows.isin(set(keys))
    if len(rows) and not known.any():
        raise InputError(
            f"{path} has no row for any of the {len(rows)} people with scans: they are called "
            f"{subjects[0]}, ..., its column {columns['subject']!r} holds "
            f"{raw[columns['subject']].iloc[0] if len(raw) else 'nothing'}, ...: map the column "
            "with the same ids, columns: {subject: NAME}"
        )
    raw, keys = raw[keys.isin(set(rows))], keys[keys.isin(set(rows))]
    ours, notes = _translate(raw, columns, info, path)
    visits = pd.DataFrame()
    if keys.duplicated().any() and "session" in columns:
        visit = raw[columns["session"]].map(visit_key)
        order = np.argsort(visit.map(_visit_order).to_numpy(), kind="stable")
        names = dict(zip(rows, subjects, strict=True))
        visits = ours.assign(participant_id=keys.map(names), visit=visit)
        ours, keys = ours.iloc[order], keys.iloc[order]
    elif keys.duplicated().any():
        _refuse_differing(raw, keys, path)
    first = ~keys.duplicated()
    people = ours[first].set_axis(keys[first].to_numpy()).reindex(rows.to_numpy())
    people = people.reset_index(drop=True)
    people.insert(0, "participant_id", list(subjects))
    return Phenotypes(people, visits, int(known.sum()), notes)


def subject_key(subject: str) -> str:
    """Return an id without ``sub-``, punctuation, leading zeros, and what programs add to it.

    Examples
    --------
    >>> subject_key("sub-ADNI002S0295") == subject_key("002_S_0295")
    True
    >>> subject_key("51000.0") == subject_key("0051000")
    True
    """
    text = re.sub(r"^(\d+)\.0+$", r"\1", subject.strip())  # a number that pandas read as a float
    plain = re.sub(r"[^\w]|_", "", re.sub(r"^sub-", "", text))
    plain = re.sub(r"^ADNI(?=\d{3}S\d{4}$)", "", plain)  # set before the id by clinica
    return plain.lstrip("0") or "0"


def visit_key(visit: str) -> str:
    """Return the name of a visit as clinica and ADNI write it, alike.

    Examples
    --------
    >>> visit_key("bl") == visit_key("ses-M000_task-rest"), visit_key("m06") == visit_key("M006")
    (True, True)
    """
    text = re.sub(r"^ses-", "", str(visit).strip().lower()).partition("_")[0]
    if text in ("bl", "sc", "scmri", "baseline"):
        return "m0"
    return re.sub(r"^(m?)0*(\d+)(?:\.0)?$", r"\1\2", text)


def _visit_order(visit: str) -> int:
    digits = re.sub(r"\D", "", visit)
    return int(digits) if digits else 10**6


def _find_columns(raw: pd.DataFrame, info: CohortInfo, path: Path) -> dict[str, str]:
    """Return our columns and what the table calls them, the optional ones that it lacks left out.

    Blanks and underscores in a name do not count where one column fits.
    """
    plain: dict[str, list[str]] = {}
    for name in raw.columns:
        plain.setdefault(_plain(name), []).append(name)
    columns = {}
    for ours, wanted in {"subject": "participant_id", **info.columns}.items():
        names = [name.strip() for name in wanted.split(" | ")]
        exact = [name for name in names if name in raw.columns]
        alike = [found[0] for name in names if len(found := plain.get(_plain(name), [])) == 1]
        if exact or alike:
            columns[ours] = (exact or alike)[0]
        elif ours == "subject":
            raise InputError(
                f"{path} has no column {names[0]!r} with the subjects; it has: "
                f"{', '.join(raw.columns[:8])}: map it with columns: {{subject: NAME}}"
            )
        elif ours not in info.optional:
            raise InputError(
                f"{path} has no column {names[0]!r} (for {ours}); it has: "
                f"{', '.join(raw.columns[:8])}: see columns: in the cohort's YAML"
            )
    return columns


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "", name)


def _translate(
    raw: pd.DataFrame, columns: dict[str, str], info: CohortInfo, path: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Return the table in our columns and codes, and what should be looked at."""
    table, notes = pd.DataFrame(index=raw.index), []
    for ours, theirs in columns.items():
        if ours not in ("subject", "session"):
            table[ours] = _convert(raw[theirs], ours, info, path)
        if ours == "age" and (count := int(_are_ranges(raw[theirs]).sum())):
            notes.append(f"{theirs} of {path.name} holds {count} ranges of years, read as missing")
    if set(info.columns) <= _MAPPED:
        taken = {*columns.values(), *table.columns, ""}
        for name in raw.columns:
            if name not in taken:
                table[name] = tidy(raw[name], name, info.missing.get(name, ()))
    for name in table:
        if name in info.values:
            continue
        for code, count in suspicious_codes(table[name]).items():
            notes.append(
                f"{name} is {code:g} in {count} rows of {path.name}: if that stands for a missing "
                f"value, say missing: {{{name}: [{code:g}]}} in the cohort's YAML"
            )
    return table, notes


def _refuse_differing(raw: pd.DataFrame, keys: pd.Series, path: Path) -> None:
    """Refuse subjects whose rows differ: which one holds for a scan is not known."""
    for key, rows in raw.groupby(keys):
        differ = [name for name in rows if len({*rows[name]} - {""}) > 1]
        if differ:
            raise InputError(
                f"{path}: subject {key} has {len(rows)} rows with different {differ[0]!r}: map the "
                "column that tells the visits apart with columns: {session: NAME}, or keep one row "
                "per subject"
            )


def _convert(cells: pd.Series, name: str, info: CohortInfo, path: Path) -> pd.Series:
    if name in info.values:
        return _decode(cells, name, info, path)
    converted = tidy(cells, name, info.missing.get(name, ()))
    if name == "age" and _are_ranges(cells).any():
        converted = tidy(cells.mask(_are_ranges(cells), ""), name, info.missing.get(name, ()))
    is_number = name in info.factors or name in info.thresholds or name in info.bins
    if is_number and not pd.api.types.is_numeric_dtype(converted):
        words = converted[pd.to_numeric(converted, errors="coerce").isna()].dropna()
        raise InputError(
            f"{path}: column {cells.name!r} holds text ({words.iloc[0]!r}), expected numbers: if "
            f"it stands for a missing value, say missing: {{{name}: [{words.iloc[0]}]}} in the "
            "cohort's YAML"
        )
    if name in info.factors:
        return (converted * info.factors[name]).round(2)
    if name in info.thresholds:
        above = (converted > info.thresholds[name]).astype(float)
        return above.where(converted.notna())
    return converted


def _are_ranges(cells: pd.Series) -> pd.Series:
    """Return where an age is a range: ``26-30``, and ``36+`` in a column of ranges."""
    between = cells.str.fullmatch(r"\d+\s*-\s*\d+")
    return between | (cells.str.endswith("+") & between.any())


def _decode(cells: pd.Series, name: str, info: CohortInfo, path: Path) -> pd.Series:
    """Return the values that the codes of a column stand for; a sex may be a word all the same.

    A code that is not listed is missing, such as MCI among CN and AD.
    """
    codes = {str(key): value for key, value in info.values[name].items()}
    plain = cells.str.replace(r"\.0+$", "", regex=True)
    decoded = plain.map(codes)
    if name == "sex":
        words = read_sex(plain)
        decoded = decoded.where(decoded.notna(), words.where(words.isin(["M", "F"])))
    known = tidy(plain, name, info.missing.get(name, ())).notna()
    if known.any() and decoded.isna().all():
        held = ", ".join(map(repr, plain[known].unique()[:4]))
        raise InputError(
            f"{path}: column {cells.name!r} holds {held}; values of {name} in the cohort's YAML "
            f"knows {', '.join(codes)}: correct the codes there"
        )
    return decoded


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
