"""Which participant columns are categories, and the one way to turn columns into features.

A column is a **category** if its values are words or booleans, or whole numbers under a name that
is known for codes (site, sex, scanner, batch, ...), or few whole numbers that repeat often (at most
10, each 5 times on average). It is **text** if most of its words occur once. Else it is a
**number**; age and motion always are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

_PERSON = frozenset({"sex", "gender", "hand", "handedness", "race", "ethnicity"})
_ACQUISITION = frozenset(
    {
        "site", "sites", "center", "centre", "scanner", "scan", "station", "device", "machine",
        "manufacturer", "manufacturers", "vendor", "batch", "wave", "coil", "sequence",
        "protocol", "software", "firmware", "tesla", "magnetic", "phaseencoding", "tr",
        "repetition", "echo", "flip", "multiband", "operator", "technician", "acq",
        "acquisition"
    }
)  # fmt: skip
_NUMBERS = frozenset({"age", "mean_fd"})
_LEVELS = 200  # most frequent values or words of a column that become features
_FEW, _REPEATS = 10, 5  # distinct whole numbers, and how often each occurs, of an unnamed category
_PERSON_REPEATS = 2  # the same of sex, handedness, ...: a handedness score is a number


def name_parts(name: str) -> set[str]:
    """Return the words of a column name in lower case.

    Examples
    --------
    >>> sorted(name_parts("ManufacturersModelName"))
    ['manufacturers', 'model', 'name']
    """
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def is_acquisition(name: str) -> bool:
    """Return whether a column says by its name where or how a scan was made."""
    return bool(name_parts(name) & _ACQUISITION)


def kind_of(values: pd.Series) -> str:
    """Return ``category``, ``text`` or ``number`` for a column, by its name and values."""
    known = values.dropna()
    name = str(values.name)
    distinct = known.nunique()
    if isinstance(values.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(values):
        return "category"
    if not pd.api.types.is_numeric_dtype(values):
        return "text" if distinct > max(_FEW, len(known) / 2) else "category"
    numbers = known.to_numpy(dtype=float)
    if name.lower() in _NUMBERS or not (numbers == np.round(numbers)).all():
        return "number"
    if is_acquisition(name):
        return "category"
    if name_parts(name) & _PERSON and len(known) >= _PERSON_REPEATS * distinct:
        return "category"
    return "category" if distinct <= _FEW and len(known) >= _REPEATS * distinct else "number"


def as_words(values: pd.Series) -> pd.Series:
    """Return the values as text, equal for 1, 1.0 and ``"1"``; ``missing`` where there is none."""

    def word(value: object) -> str:
        if isinstance(value, (float, np.floating)) and float(value).is_integer():
            return str(int(value))
        return str(value).strip()

    return values.map(word, na_action="ignore").astype(object).fillna("missing").astype(str)


@dataclass(frozen=True)
class _Column:
    name: str
    kind: str
    levels: tuple[str, ...] = ()
    centre: float = 0.0
    spread: float = 1.0


class ColumnEncoder:
    """Columns of a participants table as features, learned on the training rows.

    A category becomes one feature per value, a text one per word, a number stays one (in standard
    deviations of the training rows; nan where it is missing).

    Attributes
    ----------
    columns_ : list
        What was learned of every column, after :meth:`fit`.

    Examples
    --------
    >>> table = pd.DataFrame({"site": [1, 2, 1, 2], "age": [20.5, 30.0, 40.0, 50.0]})
    >>> ColumnEncoder().fit(table, ["site", "age"]).transform(table).shape
    (4, 3)
    """

    def fit(self, table: pd.DataFrame, names: Sequence[str]) -> ColumnEncoder:
        """Learn the values of categories, and centre and spread of numbers.

        Parameters
        ----------
        table : DataFrame
            Training rows.
        names : sequence of str
            Columns to encode.
        """
        self.columns_ = [self._learn(table[name]) for name in names]
        return self

    @staticmethod
    def _learn(values: pd.Series) -> _Column:
        name, kind = str(values.name), kind_of(values)
        if kind == "number":
            numbers = values.to_numpy(dtype=float)
            known = numbers[np.isfinite(numbers)]
            spread = float(known.std()) if len(known) else 0.0
            centre = float(known.mean()) if len(known) else 0.0
            return _Column(name, kind, centre=centre, spread=spread or 1.0)
        words = as_words(values)
        if kind == "text":
            words = words.str.lower().str.split().explode()
        counts = words.value_counts().sort_index().sort_values(ascending=False, kind="stable")
        return _Column(name, kind, tuple(sorted(counts.index[:_LEVELS])))

    def transform(self, table: pd.DataFrame) -> np.ndarray:
        """Return the features, shape (n_rows, n_features); a value unknown in training is all 0."""
        blocks = []
        for column in self.columns_:
            values = table[column.name]
            if column.kind == "number":
                z = (values.to_numpy(dtype=float) - column.centre) / column.spread
                blocks.append(z[:, None])
                continue
            words = as_words(values)
            if column.kind == "category":
                blocks.append(np.stack([words == level for level in column.levels], axis=1))
            else:
                sets = [set(text.lower().split()) for text in words]
                blocks.append(np.array([[w in found for w in column.levels] for found in sets]))
        return np.hstack(blocks).astype(float)
