"""Series whose regions have names, numbers or only an order: matched to an atlas, never shifted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.atlases.atlas import Atlas
from fmrilm.errors import InputError
from fmrilm.preparation.sources.parcellate import Parcellated
from fmrilm.readers import reading
from fmrilm.tables.text import (
    MISSING,
    find_separator,
    parse_numbers,
    read_text,
    split_rows,
    uses_decimal_comma,
)

_FEW = 4  # numbers that may rise by chance


def by_name(
    names: Sequence[str], series: np.ndarray, atlas: Atlas, source: Path, keys: Sequence[str] = ()
) -> Parcellated:
    """Return series ordered by region: ``names`` are labels or names of the atlas, in any order.

    Parameters
    ----------
    names : sequence of str
        One per row of ``series``.
    series : ndarray, shape (len(names), n_timepoints)
    atlas : Atlas
    source : Path
        For messages.
    keys : sequence of str
        Numbers of the rows: labels where the rows have no names, or are the very labels of the
        atlas and no name says otherwise (names differ in spelling).

    Raises
    ------
    InputError
        If no name is a region of the atlas, or a region occurs twice.
    """
    wanted = find_regions(names, atlas)
    notes = []
    if keys:
        numbered = find_regions(keys, atlas)
        is_unnamed = all(not n or n == key for n, key in zip(names, keys, strict=True))
        agree = all(row in (None, other) for row, other in zip(wanted, numbered, strict=True))
        if is_unnamed:
            wanted = numbered
        elif None in wanted and agree and {*keys} == {*atlas.labels}:
            name = names[wanted.index(None)]
            notes.append(f"regions taken by number: names are spelled otherwise ({name})")
            wanted = numbered
    known = [row for row in wanted if row is not None]
    if not known:
        raise InputError(
            f"{source}: none of its regions ({', '.join(names[:3])}, ...) is in atlas {atlas.name} "
            f"({', '.join(atlas.names[:2])}, ...): give the atlas they belong to"
        )
    if len(set(known)) < len(known):
        raise InputError(f"{source}: a region of {atlas.name} occurs twice")
    ordered = np.full((len(atlas), series.shape[1]), np.nan, np.float32)
    for place, values in zip(wanted, series, strict=True):
        if place is not None:
            ordered[place] = values
    coverage = np.zeros(len(atlas), np.float32)
    coverage[known] = 1
    if len(known) < len(names):
        notes.append(f"{len(names) - len(known)} columns are no region of {atlas.name}, left out")
    if len(known) < len(atlas):
        notes.append(f"{len(atlas) - len(known)} regions absent")
    return Parcellated(ordered, coverage, notes=notes)


def find_regions(names: Sequence[str], atlas: Atlas) -> list[int | None]:
    """Return the row of the atlas that every name stands for, None where it stands for none."""
    labels = {label: row for row, label in enumerate(atlas.labels)}
    titles: dict[str, int] = {}
    for row, title in enumerate(atlas.names):
        if atlas.names.count(title) == 1:  # a name that occurs twice identifies nothing
            titles[spelling(title)] = row
    plain = [name.strip() for name in names]
    return [titles.get(spelling(name), labels.get(name)) for name in plain]


def spelling(name: str) -> str:
    """Return a region's name without what differs between programs.

    Examples
    --------
    >>> spelling("7Networks_LH_Vis_1") == spelling("LH-Vis-1")
    True
    """
    return re.sub(r"[\W_]+", "_", name.strip().casefold()).removeprefix("7networks_")


def by_order(series: np.ndarray, atlas: Atlas, source: Path) -> Parcellated:
    """Return series whose rows or columns have no names: one side must have as many as the atlas.

    Raises
    ------
    InputError
        If neither side has, or both, or the values are no real numbers.
    """
    if series.ndim != 2:
        raise InputError(f"{source} holds {series.ndim} dimensions, not regions x time")
    if series.dtype.kind not in "fiub":
        raise InputError(f"{source} holds {series.dtype} values, not numbers")
    sides = [count == len(atlas) for count in series.shape]
    if sides == [True, True]:
        raise InputError(
            f"{source} is {series.shape[0]} x {series.shape[1]}: cannot tell regions from time, "
            "give a table whose columns are named"
        )
    if not any(sides):
        raise InputError(
            f"{source} is {series.shape[0]} x {series.shape[1]}, atlas {atlas.name} has "
            f"{len(atlas)} regions: give the atlas it belongs to"
        )
    return _in_order(series if sides[0] else series.T, atlas)


def _in_order(series: np.ndarray, atlas: Atlas) -> Parcellated:
    note = f"regions without names: taken to be in the order of {atlas.name}"
    ordered = np.asarray(series, np.float32)
    return Parcellated(ordered, np.ones(len(atlas), np.float32), notes=[note])


def read_region_table(path: Path, atlas: Atlas) -> Parcellated:
    """Return the series of a text table, one column per region.

    Columns named after regions are matched by name or label, also as C-PAC (``#1``) and AFNI
    (``Mean_1``) write them. A header that only counts, as pandas writes it, names nothing: its
    columns are taken in order where there are as many as regions. Lines at the top that begin with
    ``#`` are comments.

    Raises
    ------
    InputError
        If the rows differ in length, values are no numbers, or the columns are not the regions.
    """
    first, lines, separator, names = _find_header(path, atlas)
    rows, numbers = split_rows(lines, separator, path, first)
    if not rows:
        raise InputError(f"{path} holds no rows of values")
    has_commas = separator != "," and any("," in line for line in lines)
    decimal = "," if has_commas and uses_decimal_comma(rows) else "."
    with reading(path, "save it as a plain table of numbers"):
        table = parse_numbers(lines, separator, decimal)

    def values(columns: Sequence[int]) -> np.ndarray:
        for column in columns:
            if table[column].dtype.kind not in "fiu":
                _refuse_words([row[column] for row in rows], numbers, decimal, path)
        return table[list(columns)].to_numpy(float)

    if names is None:
        filled = [column for column in table if any(row[column] for row in rows)]
        return by_order(values(filled), atlas, path)
    if len(names) == len(rows[0]) - 1 and _counts([row[0] for row in rows]):
        names = ["", *names]  # R does not name the column of its row names
    if len(names) != len(rows[0]):
        raise InputError(
            f"{path}: the header has {len(names)} names, the rows have {len(rows[0])} columns"
        )
    counted = _counted_columns(names, atlas, path)
    if counted:
        return _in_order(values(counted).T, atlas)
    kept = [column for column, name in enumerate(names) if name]  # an index has no name
    shown = [names[column] for column in kept]
    places = find_regions(shown, atlas)
    wanted = [column for column, place in zip(kept, places, strict=True) if place is not None]
    series = np.full((len(names), len(rows)), np.nan)
    series[wanted] = values(wanted).T
    return by_name(shown, series[kept], atlas, path)


def _find_header(path: Path, atlas: Atlas) -> tuple[int, list[str], str, list[str] | None]:
    """Return the number of the first line of values, those lines, the separator and the header."""
    lines = read_text(path).rstrip("\n").split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip() and line[0] != "#"), len(lines))
    if first == len(lines):
        raise InputError(f"{path} holds no rows of values")
    separator = find_separator(lines[first])
    words = split_rows(lines[first : first + 1], separator, path, first + 1)[0][0]
    for line in reversed(lines[:first]):  # a comment is the header if it names every column
        if not line.startswith("#"):
            continue
        marked = line.split() if separator == r"\s+" else line.split(separator)
        if separator == r"\s+" and len(marked) == len(words) + 1:
            marked = marked[1:]  # numpy sets "# " before the header
        names = [_plain_name(word) for word in marked]
        named = any(place is not None for place in find_regions(names, atlas))
        if len(names) == len(words) and (named or all("#" in word for word in marked)):
            return first + 1, lines[first:], separator, names
        break
    names = [_plain_name(word) for word in words]
    if _is_header(names, atlas, separator):
        return first + 2, lines[first + 1 :], separator, names
    return first + 1, lines[first:], separator, None


def _plain_name(word: str) -> str:
    """Return a column's name without C-PAC's ``#`` and AFNI's ``Mean_``; ``3.0`` as ``3``."""
    name = re.sub(r"^(?:#\s*)?(?:Mean_(?=\d+$))?", "", word.strip().strip('"')).strip()
    return re.sub(r"^(\d+)\.0+$", r"\1", name)


def _is_header(names: list[str], atlas: Atlas, separator: str) -> bool:
    numbers = [name.replace(",", ".") if separator != "," else name for name in names]
    if not all(number in MISSING or _is_number(number) for number in numbers):
        return True
    whole = [name for name in names if name.isdigit()]
    if len(whole) < 2 or len(whole) < len([name for name in names if name]):
        return False
    if len(whole) > _FEW and whole == sorted(set(whole), key=int):
        return True  # no volume rises from region to region: columns left out of 0, 1, 2, ...
    return _counts(whole) or (len(set(whole)) == len(whole) and set(whole) <= set(atlas.labels))


def _counted_columns(names: list[str], atlas: Atlas, path: Path) -> list[int]:
    """Return the columns of a header that counts without naming regions, in their order.

    Raises
    ------
    InputError
        If it counts to another number than there are regions.
    """
    columns = [column for column, name in enumerate(names) if name.isdigit()]
    whole = [names[column] for column in columns]
    others = [name for name in names if name and not name.isdigit()]
    if any(place is not None for place in find_regions(others, atlas)):
        return []
    from_zero = "0" in whole and "0" not in atlas.labels
    if len(whole) < 2 or set(whole) == set(atlas.labels) or not (_counts(whole) or from_zero):
        return []
    if _counts(whole) and len(whole) == len(atlas):
        return columns
    raise InputError(
        f"{path}: the header counts from {whole[0]} to {whole[-1]}, atlas {atlas.name} has "
        f"{len(atlas)} regions labelled {atlas.labels[0]} to {atlas.labels[-1]}: write their "
        "labels or names into the header"
    )


def _counts(words: list[str]) -> bool:
    """Return whether words are 0, 1, 2, ... or 1, 2, 3, ..."""
    start = int(words[0]) if words and words[0] in ("0", "1") else 2
    return len(words) > 1 and start < 2 and words == [str(start + i) for i in range(len(words))]


def _refuse_words(cells: list[str], numbers: list[int], decimal: str, path: Path) -> None:
    for cell, number in zip(cells, numbers, strict=True):
        if cell not in MISSING and not _is_number(cell.replace(decimal, ".")):
            raise InputError(
                f"{path}, line {number} holds a value that is no number: {cell!r}: correct it"
            )


def _is_number(word: str) -> bool:
    return not np.isnan(pd.to_numeric(word, errors="coerce")) or word.lower() == "nan"
