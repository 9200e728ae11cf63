"""Damaged tables: cohort tables, confounds, series, phenotypes."""

from __future__ import annotations

from pathlib import Path

from fuzz.damage import ANY, BYTES, REFUSE, SAY, TEXT, Rng, pick

CELLS = ["", " ", "n/a", "nan", "inf", "-inf", "1e400", "-1", "0", "9" * 400, "x", "1,5", "1.5.2",
         "=cmd|' /C calc'!A0", "@SUM(1)", "../../../x", "/etc/passwd", '"', '"a\nb"', "a\tb", "é",
         "<script>", "{x}", "${HOME}", "[1]", "None", "True", "x" * 20_000, "\u202e", "1e-400", "0x1F",
         "2020-01-01", "-9", "999"]  # fmt: skip


def _rows(path: Path) -> tuple[list[list[str]], str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    mark = "\t" if "\t" in lines[0] else "," if "," in lines[0] else " "
    return [line.split(mark) for line in lines], mark


def _write(path: Path, rows: list[list[str]], mark: str) -> None:
    path.write_text("".join(mark.join(row) + "\n" for row in rows), encoding="utf-8")


def cell(path: Path, rng: Rng, canary: Path) -> str:
    rows, mark = _rows(path)
    row = rows[int(rng.integers(1, len(rows)))]
    row[int(rng.integers(len(row)))] = pick(rng, CELLS)
    _write(path, rows, mark)
    return ANY


def column(path: Path, rng: Rng, canary: Path) -> str:
    rows, mark = _rows(path)
    at, value = int(rng.integers(len(rows[0]))), pick(rng, CELLS)
    for row in rows[1:]:
        if at < len(row):
            row[at] = value
    _write(path, rows, mark)
    return ANY


def header(path: Path, rng: Rng, canary: Path) -> str:
    rows, mark = _rows(path)
    rows[0][int(rng.integers(len(rows[0])))] = pick(rng, [*CELLS, *rows[0]])
    _write(path, rows, mark)
    return ANY


def no_column(path: Path, rng: Rng, canary: Path) -> str:
    rows, mark = _rows(path)
    at = int(rng.integers(len(rows[0])))
    _write(path, [[*row[:at], *row[at + 1 :]] for row in rows], mark)
    return ANY


def header_only(path: Path, rng: Rng, canary: Path) -> str:
    rows, mark = _rows(path)
    _write(path, rows[:1], mark)
    return ANY if path.name == "samples.tsv" else SAY  # which need not hold anything


def no_header(path: Path, rng: Rng, canary: Path) -> str:
    rows, mark = _rows(path)
    _write(path, rows[1:], mark)
    return ANY


def ragged(path: Path, rng: Rng, canary: Path) -> str:
    rows, mark = _rows(path)
    row = rows[int(rng.integers(1, len(rows)))]
    if rng.random() < 0.5 and len(row) > 1:
        row.pop()
    else:
        row.extend(["7"] * int(rng.integers(1, 4)))
    _write(path, rows, mark)
    return REFUSE


def twice(path: Path, rng: Rng, canary: Path) -> str:
    rows, mark = _rows(path)
    rows.insert(int(rng.integers(1, len(rows))), rows[int(rng.integers(1, len(rows)))])
    _write(path, rows, mark)
    return ANY


def fewer(path: Path, rng: Rng, canary: Path) -> str:
    rows, mark = _rows(path)
    rows.pop(int(rng.integers(1, len(rows))))
    _write(path, rows, mark)
    return ANY


def shuffled(path: Path, rng: Rng, canary: Path) -> str:
    rows, mark = _rows(path)
    order = rng.permutation(len(rows) - 1) + 1
    _write(path, [rows[0], *(rows[i] for i in order)], mark)
    return ANY


def separator(path: Path, rng: Rng, canary: Path) -> str:
    rows, _ = _rows(path)
    _write(path, rows, pick(rng, ["\t", ",", ";", " ", "|", "  ", ""]))
    return ANY


def quoted(path: Path, rng: Rng, canary: Path) -> str:
    rows, mark = _rows(path)
    row = rows[int(rng.integers(len(rows)))]
    row[int(rng.integers(len(row)))] = '"open'
    _write(path, rows, mark)
    return ANY


def wide(path: Path, rng: Rng, canary: Path) -> str:
    rows, mark = _rows(path)
    _write(path, [[*row, *(f"c{i}" for i in range(3000))] for row in rows], mark)
    return ANY


TABLE = [cell, cell, cell, column, column, header, no_column, header_only, no_header, ragged, twice,
         fewer, shuffled, separator, quoted, wide, *TEXT, *BYTES]  # fmt: skip
