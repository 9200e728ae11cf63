"""Tables of people as studies keep them: cells as text, then tidied column by column.

What one column holds decides how it is read: numbers where all of it is numbers, the sex words of
BIDS, text otherwise. The folder's own ``participants.tsv`` and a study's table are read alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.tables.text import MISSING, read_columns

IDS = ("participant_id", "subject_id", "session_id")
CODES = (-9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0)  # that often stand for "missing"
_NO_VALUE = {*MISSING, "NA", "None", "-999", "-999.0", "-9999", "-9999.0", "pending", "#N/A"}
_SEX_WORDS = {"male": "M", "m": "M", "female": "F", "f": "F"}
_NO_SEX = {"o", "other", "u", "unknown", "x", "na", "n/a", "nan", "none", ""}
_TOP_CODED = re.compile(r"^(\d+(?:\.\d+)?)\s*\+$")  # 89+: ages that are not told


def read_people(path: str | Path) -> pd.DataFrame:
    """Return a table of people, or of their scans, with tidied columns; ids stay text.

    Raises
    ------
    InputError
        If the file is no such table.
    """
    raw = read_columns(path)
    named = [name for name in raw.columns if name]
    return pd.DataFrame({name: _tidy_own(raw[name], name) for name in named})


def _tidy_own(cells: pd.Series, name: str) -> pd.Series:
    if name in IDS:
        return cells.astype(str)
    return tidy(cells, name)


def tidy(cells: pd.Series, name: str, missing: Sequence[Any] = ()) -> pd.Series:
    """Return a column of text as numbers, sexes or text, NaN where nothing is known.

    Parameters
    ----------
    cells : Series of str
    name : str
        Our name of the column: a ``site`` may be called NA or None, a ``sex`` is M or F.
    missing : sequence
        Codes that stand for a missing value, beside the usual words.
    """
    known = cells.where(~cells.isin(_empty(name)), np.nan).astype(object)
    if missing:
        declared = {_plain(code) for code in missing}
        known = known.where(~known.map(_plain).isin(declared), np.nan)
    numbers = pd.to_numeric(known.replace(_TOP_CODED, r"\1", regex=True), errors="coerce")
    if numbers.notna().sum() == known.notna().sum():
        return numbers
    return read_sex(known) if name == "sex" else known


def read_sex(values: pd.Series) -> pd.Series:
    """Return M and F for the words of BIDS in any spelling; other people have no label.

    A word that is none of these stays, and is refused where the label is used.
    """

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        word = value.strip().lower()
        return np.nan if word in _NO_SEX else _SEX_WORDS.get(word, value.strip())

    return values.map(read)


def suspicious_codes(values: pd.Series) -> dict[float, int]:
    """Return the numbers in a column that look like a code for "missing", and how often.

    Such a code is one of the usual ones and lies far outside of all other values.
    """
    if not pd.api.types.is_numeric_dtype(values):
        return {}
    known = values.dropna().astype(float)
    rest = known[~known.isin(CODES)]
    if rest.empty:
        return {}
    low, high = rest.min(), rest.max()
    margin = max(high - low, 1.0)
    counts = known[known.isin(CODES)].value_counts()
    return {
        float(code): int(count)
        for code, count in counts.items()
        if code > high + margin or code < (0 if low >= 0 else low - margin)
    }


def _empty(name: str) -> set[str]:
    return {*MISSING} if name == "site" else _NO_VALUE


def _plain(value: Any) -> Any:
    """Return a code as text, numbers without zeros after the point."""
    text = str(value).strip()
    return re.sub(r"\.0+$", "", text)
