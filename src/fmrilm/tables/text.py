"""Tables as people save them: any usual text encoding, separator and decimal mark, rows counted."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from fmrilm.errors import InputError

MISSING = ("", "n/a", "N/A", "NaN", "nan", "NAN")  # numbers that are not there
_ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_NUMBER = re.compile(r"[-+]?\d*[.,]?\d+(?:[eE][-+]?\d+)?")


def read_text(path: str | Path) -> str:
    """Return the text of a file in UTF-8, UTF-16 with its mark, or Windows-1252.

    Raises
    ------
    InputError
        If the file is not text.
    """
    data = Path(path).read_bytes()
    encoding = _ENCODINGS.get(data[:3], _ENCODINGS.get(data[:2], "utf-8"))
    for name in (encoding, "cp1252"):
        try:
            text = data.decode(name)
        except UnicodeError:
            continue
        if "\0" not in text:
            return text.replace("\r\n", "\n").replace("\r", "\n")
        break
    raise InputError(
        f"{path} is not a text table: save it as UTF-8 text, columns set apart by tabs"
    )


def find_separator(line: str) -> str:
    """Return what sets the columns of a line apart: a tab, semicolon, comma or blanks."""
    words = line.split()
    if len(words) > 1 and "\t" not in line and all(_NUMBER.fullmatch(word) for word in words):
        return r"\s+"  # commas inside are decimal
    return next((mark for mark in "\t;," if mark in line), r"\s+")


def split_rows(
    lines: Sequence[str], separator: str, path: Path, first: int = 1
) -> tuple[list[list[str]], list[int]]:
    """Return the cells of every line that is not empty, and the numbers of these lines.

    Parameters
    ----------
    lines : sequence of str
        A quoted cell may go on in the next line.
    separator : str
        As :func:`find_separator` returns it.
    path : Path
        For messages.
    first : int
        Number of the first line in its file.

    Raises
    ------
    InputError
        If a row has another number of columns, or a quotation mark is not closed; the line is
        named.
    """
    rows: list[list[str]] = []
    numbers: list[int] = []
    start = 0
    reader = None
    parsed: Iterator[list[str]]
    if separator == r"\s+":
        parsed = (line.split() for line in lines)
    elif not any('"' in line for line in lines):  # faster than csv, and the same
        parsed = (line.split(separator) for line in lines)
    else:
        reader = csv.reader([f"{line}\n" for line in lines], delimiter=separator, strict=True)
        parsed = iter(reader)
    while True:
        try:
            row = next(parsed, None)
        except csv.Error as error:
            raise InputError(
                f"{path}, line {first + start}: {error}: check the quotation marks"
            ) from None
        if row is None:
            return rows, numbers
        number, start = start, reader.line_num if reader else start + 1
        if not any(cell.strip() for cell in row):
            continue
        if rows and len(row) != len(rows[0]):
            raise InputError(
                f"{path}, line {first + number} has {len(row)} columns, the first row has "
                f"{len(rows[0])}: correct the line"
            )
        rows.append([cell.strip() for cell in row])
        numbers.append(first + number)


def read_columns(path: str | Path) -> pd.DataFrame:
    """Return a table with a header, every cell as text without blanks around it.

    Raises
    ------
    InputError
        If the file is no such table, a column occurs twice, or a row has another number of
        columns.
    """
    path = Path(path)
    lines = read_text(path).split("\n")
    header = next((line for line in lines if line.strip()), None)
    if header is None:
        raise InputError(f"{path} is empty: give a table with a header")
    separator = find_separator(header)
    if separator == r"\s+":  # one column, or names that hold blanks
        separator = "\t"
    rows, _ = split_rows(lines, separator, path)
    names = rows[0]
    while names and not names[-1] and not any(row[-1] for row in rows):
        rows = [row[:-1] for row in rows]  # separators at the end of every line
        names = rows[0]
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        raise InputError(f"{path} has the column {sorted(twice)[0]!r} twice: rename one of them")
    table = pd.DataFrame(rows[1:], columns=names, dtype=object)
    if separator != ",":
        for position in range(table.shape[1]):
            cells = table.iloc[:, position]
            if uses_decimal_comma([cells]):
                table.isetitem(position, cells.str.replace(",", "."))
    return table


def uses_decimal_comma(rows: Iterable[Sequence[str]]) -> bool:
    """Return whether the numbers among some cells are written as ``1,5``, and none as ``1.5``."""
    cells = [cell for row in rows for cell in row if _NUMBER.fullmatch(cell)]
    return any("," in cell for cell in cells) and not any("." in cell for cell in cells)


def parse_numbers(lines: Sequence[str], separator: str, decimal: str = ".") -> pd.DataFrame:
    """Return lines without a header as a table of numbers; columns that hold words keep them."""
    return pd.read_csv(
        io.StringIO("\n".join(lines)), sep=separator, header=None, index_col=False,
        decimal=decimal, na_values=list(MISSING), keep_default_na=False, skipinitialspace=True,
        low_memory=False,
    )  # fmt: skip
