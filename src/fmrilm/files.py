"""Files that are there whole or not at all, whoever interrupted the writing, and as written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmrilm.errors import InputError
from fmrilm.readers import RESTORE, SEALED, arrays_hash, read_json

if TYPE_CHECKING:
    import pandas as pd

SEAL = "seal.json"  # what the files of a folder hashed to when they were written
LOCK = ".fmrilm-lock.json"  # see fmrilm.locks
# files of a processor
PROCESSOR, ATLAS, DRIFT, NORMS = "processor.json", "atlas.tsv", "drift.npz", "norms.npz"
CARD = "README.md"  # what a model is, for people
COMPANIONS = (PROCESSOR, ATLAS, DRIFT, NORMS, CARD)  # lie beside a model's own files
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of ``path`` once the block has ended well.

    What was written of it is removed if the block ends badly.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_seal(folder: Path, names: Sequence[str] | None = None) -> None:
    """Note what files of a folder hash to; without names all that lie in it, at any depth."""
    open_to_others(folder)
    chosen = list(files_in(folder)) if names is None else list(names)
    hashes = {name: _hash(folder / name) for name in chosen}
    with replacing(folder / SEAL) as partial:
        partial.write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")


def open_to_others(folder: Path) -> None:
    """Give files the mode that the umask says; safetensors makes them readable to their owner."""
    mask = os.umask(0)
    os.umask(mask)
    for name in files_in(folder):
        (folder / name).chmod(0o666 & ~mask)


def check_seal(folder: Path, remedy: str = RESTORE) -> None:
    """Check that files are as they were written; a folder without a seal is not checked.

    Raises
    ------
    InputError
        If one is gone, or was changed since.
    """
    path = folder / SEAL
    if not path.exists():
        return
    for name, known in read_json(path, remedy).items():
        file = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{path} names a file outside its folder: {remedy}")
        if not file.is_file():
            raise InputError(f"{file} is gone: {remedy}")
        if _hash(file) != known:
            raise InputError(
                f"{file} is not as it was written, it was changed or is damaged: {remedy}"
            )


def files_in(folder: Path) -> Iterator[str]:
    """Yield the names of all files below a folder, the seal and a lock left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (SEAL, LOCK):
            yield path.relative_to(folder).as_posix()


def write_arrays(path: Path, arrays: Mapping[str, Any], compressed: bool = False) -> None:
    """Write arrays as NPZ, with a hash of them that :func:`fmrilm.readers.read_arrays` checks."""
    import numpy as np

    save = np.savez_compressed if compressed else np.savez
    plain = {name: np.asarray(value) for name, value in arrays.items()}
    with replacing(path) as partial, partial.open("wb") as handle:
        save(handle, **plain, **{SEALED: np.array(arrays_hash(plain))})  # type: ignore[arg-type]


def write_array(path: str | Path, values: Any) -> None:
    """Write one array as NPY; whole, or with an error.

    ``numpy.save`` hands real files to the C library, and a disk that is full when its buffer is
    flushed goes unnoticed: the file is cut off and nobody is told.
    """
    import numpy as np

    plain = np.asarray(values, order="C")
    header = np.lib.format.header_data_from_array_1_0(plain)  # type: ignore[no-untyped-call]
    with replacing(path) as partial, partial.open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        handle.write(plain.data)


def _hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def plain_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in which no text is a formula to a spreadsheet: an apostrophe stands first."""

    def escape(value: object) -> object:
        is_formula = isinstance(value, str) and value.startswith(_FORMULA)
        return f"'{value}" if is_formula and not _is_number(str(value)) else value

    words = [name for name in table if not _is_numeric(table[name])]
    return table.assign(**{name: table[name].map(escape) for name in words})


def _is_numeric(values: pd.Series) -> bool:
    from pandas.api.types import is_numeric_dtype

    return is_numeric_dtype(values)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
