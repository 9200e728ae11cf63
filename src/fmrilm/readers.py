"""Files that come from outside: read so that every fault in them is one sentence.

A block ``with reading(path):`` holds nothing but the reading and interpreting of that one file.
What goes wrong in it is therefore the file's: parsers (of JSON, YAML, HDF5, safetensors, zip,
NIfTI, ...) raise whatever they like, also for content that they take and that is not ours.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fmrilm.errors import InputError

SEALED = "sealed"  # in an NPZ file of ours: the hash of its other arrays
RESTORE = "restore it, or make it again"
_MOST_VALUES = 200_000  # in a YAML file, aliases counted as what they stand for
_MOST = 2**30  # bytes of a text file of ours; none is near
_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some of it, then give the command again",
    errno.EDQUOT: "your quota on this disk is used up: free some, then give the command again",
    errno.EACCES: "permission denied: give yourself access, or use another place",
    errno.EPERM: "permission denied: give yourself access, or use another place",
    errno.EROFS: "the disk is read-only: use another place",
    errno.EISDIR: "it is a folder, a file was expected",
    errno.ENOTDIR: "it, or something above it, is a file, a folder was expected",
    errno.ENOENT: "it does not exist",
    errno.EEXIST: "it exists already: use another name, or remove it",
    errno.ENOTEMPTY: "the folder is not empty: use another name, or remove it",
    errno.ELOOP: "it is a link that points back to itself: remove it",
    errno.ENAMETOOLONG: "the name is too long: use a shorter one",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n 4096)",
    errno.EIO: "the disk reports an error: copy the file to another one",
    errno.ESTALE: "the network disk lost the file: give the command again",
}


@contextmanager
def reading(path: str | Path, remedy: str = RESTORE) -> Iterator[None]:
    """Make one sentence of whatever goes wrong while a file is read and interpreted.

    Parameters
    ----------
    path : path
        The file or folder, for the sentence.
    remedy : str
        What to do about it.

    Raises
    ------
    InputError
        If the block raises anything but an :class:`InputError` or a missing file of ours.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and error.errno is None:
            raise  # with a sentence of ours
        raise InputError(tell_os_error(error, path, remedy)) from error
    except Exception as error:  # see the top of this file
        raise InputError(f"{path} cannot be read ({reason(error)}): {remedy}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of libraries written in Rust
            raise
        raise InputError(f"{path} cannot be read ({reason(error)}): {remedy}") from None


def reason(error: BaseException) -> str:
    """Return what an error says, in one short line."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, KeyError):
        return f"there is no {text}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return f"it needs more memory than there is: {text}"
    return text


def tell_os_error(error: OSError, path: str | Path | None = None, remedy: str = RESTORE) -> str:
    """Return what the operating system complains about as a sentence with its remedy.

    Parameters
    ----------
    error : OSError
    path : path, optional
        The file, if the error does not name it.
    remedy : str
        What to do where the error says nothing that is known.
    """
    where = error.filename if isinstance(error.filename, str) else path
    where = where or path
    if is_full_disk(error):
        return f"{where or 'writing'}: {_REMEDIES[errno.ENOSPC]}"
    if error.errno in _REMEDIES:
        return f"{where or 'a file'}: {_REMEDIES[error.errno]}"
    return f"{where or 'a file'} cannot be read ({reason(error)}): {remedy}"


def is_full_disk(error: BaseException) -> bool:
    """Whether an error, or one that it comes from, is that of a disk (or quota) without space."""
    text = str(error)
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    # HDF5 and safetensors only put it into words; numpy says how much it could write
    if any(words in text for words in ("No space left", "File too large", " requested and ")):
        return True
    below = error.__cause__ or error.__context__
    return below is not None and is_full_disk(below)


def read_file(path: str | Path, remedy: str = RESTORE) -> str:
    """Return the text of one of our files, which is UTF-8.

    Raises
    ------
    InputError
        If it is not there, or no text.
    """
    path = Path(path)
    with reading(path, remedy):
        if not path.is_file():
            there = "is not a file" if path.exists() or path.is_symlink() else "is not there"
            raise InputError(f"{path} {there}: {remedy}")
        if path.stat().st_size > _MOST:
            raise InputError(f"{path} is larger than any file of its kind: {remedy}")
        text = path.read_text(encoding="utf-8")
        if "\0" in text:
            raise InputError(f"{path} holds bytes that are not text: {remedy}")
        return text


def read_json(path: str | Path, remedy: str = RESTORE) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    InputError
        If there is none.
    """
    return _object(read_file(path, remedy), Path(path), str(path), remedy)


def read_json_lines(path: str | Path, remedy: str = RESTORE) -> list[dict[str, Any]]:
    """Return the objects in a file of one JSON object per line, empty lines left out."""
    lines = read_file(path, remedy).split("\n")
    return [
        _object(line, Path(path), f"{path}, line {number},", remedy)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _object(text: str, path: Path, where: str, remedy: str) -> dict[str, Any]:
    with reading(path, remedy):
        try:
            content = json.loads(text)
        except ValueError as error:
            raise InputError(f"{where} is not JSON ({reason(error)}): {remedy}") from None
    if not isinstance(content, dict):
        raise InputError(f"{where} holds {type(content).__name__}, not an object: {remedy}")
    return content


def check_name(name: str, what: str) -> str:
    """Return a name that becomes part of file names; refuse one that could be a path.

    Raises
    ------
    InputError
        If it is empty, very long, begins with a dot or holds a separator or control character.
    """
    is_path = any(mark in name for mark in "/\\") or name.startswith(".")
    if not name.strip() or is_path or len(name) > 100 or not name.isprintable():
        raise InputError(f"{what} {name[:60]!r} cannot be used: choose a plain name, no path")
    return name


def check_types(
    content: Mapping[str, Any], kinds: Mapping[str, Any], where: str | Path, remedy: str = RESTORE
) -> None:
    """Raise :class:`InputError` unless keys are there and have values of the given types.

    Parameters
    ----------
    content : mapping
    kinds : mapping
        Key -> type or types (``X | None``) of its value.
    where : str or path
        The file, for the sentence.
    remedy : str
    """
    for key, kind in kinds.items():
        if key not in content:
            raise InputError(f"{where} has no {key!r}: {remedy}")
        value = content[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind in (int, float)):
            given = type(value).__name__
            raise InputError(f"{where}: {key} is of type {given}, which does not fit: {remedy}")


def read_yaml(path: str | Path, remedy: str = "correct it") -> dict[str, Any]:
    """Return the keys and values of a YAML file; empty for an empty one.

    Raises
    ------
    InputError
        If it is no YAML, or not keys and values.
    """
    text = read_file(path, remedy)
    with reading(path, remedy):
        content = load_yaml(text)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a YAML file of keys and values: {remedy}")
    odd = [key for key in content if not isinstance(key, str)]
    if odd:
        raise InputError(f"{path}: the key {odd[0]!r} is not text: {remedy}")
    return content


def load_yaml(text: str) -> Any:
    """Return the values of a YAML text; a key twice, or aliases that swell, are errors.

    Raises
    ------
    ValueError, yaml.YAMLError
        If the text is not such YAML.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = [key for key in keys if keys.count(key) > 1 and key != "<<"]
            if twice:
                raise ValueError(f"the key {twice[0]!r} stands there twice")
            return super().construct_mapping(node, deep)

    content = yaml.load(text, Loader)
    waiting, count = [content], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict | list):
            waiting.extend(value.values() if isinstance(value, dict) else value)
        if count > _MOST_VALUES:
            raise ValueError("its aliases stand for too many values, or for themselves")
    return content


def arrays_hash(arrays: Mapping[str, Any]) -> str:
    """Return a hash of named arrays: names, types, shapes and values."""
    import hashlib

    import numpy as np

    about = hashlib.sha256()
    for name in sorted(arrays):
        value = np.asarray(arrays[name])
        about.update(f"{name} {value.dtype.str} {value.shape};".encode())
        about.update(np.ascontiguousarray(value).tobytes())
    return about.hexdigest()[:32]


def read_arrays(path: str | Path, names: Sequence[str] = (), remedy: str = RESTORE) -> dict:
    """Return the arrays of an NPZ file, none of them an object that would run code.

    Parameters
    ----------
    path : path
    names : sequence of str
        Arrays that must be there.
    remedy : str

    Raises
    ------
    InputError
        If it is no such file, or lacks an array.
    """
    import numpy as np

    with reading(path, remedy):
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            raise InputError(f"{path} is not an NPZ file: {remedy}")
        with content:
            arrays = {name: content[name] for name in content.files}
        seal = arrays.pop(SEALED, None)
        if seal is not None and str(seal) != arrays_hash(arrays):
            raise InputError(f"{path} is not as it was written (changed, or damaged): {remedy}")
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError(f"{path} has no array {missing[0]!r}: {remedy}")
    return arrays


def read_table(
    path: str | Path,
    separator: str = "\t",
    needed: Sequence[str] = (),
    remedy: str = RESTORE,
    **options: Any,
) -> Any:
    """Return one of our tables as a DataFrame; rows of another length than the header are refused.

    Parameters
    ----------
    path : path
    separator : str
    needed : sequence of str
        Columns that must be there.
    remedy : str
    **options
        Of :func:`pandas.read_csv`.

    Raises
    ------
    InputError
        If it is no such table, or lacks a column.
    """
    import csv
    import io

    import pandas as pd

    text = read_file(path, remedy)
    with reading(path, remedy):
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header = next((row for row in rows if row), [])
        for row in rows:
            if row and len(row) != len(header):
                raise InputError(
                    f"{path}, line {rows.line_num}, has {len(row)} columns, the header has "
                    f"{len(header)}: {remedy}"
                )
        twice = [name for name in header if header.count(name) > 1]
        lacking = [name for name in needed if name not in header]
        if twice or lacking or not header:
            problem = (
                f"has the column {twice[0]!r} twice" if twice
                else f"has no column {lacking[0]!r}" if lacking else "is empty"
            )  # fmt: skip
            raise InputError(f"{path} {problem}: {remedy}")
        return pd.read_csv(io.StringIO(text), sep=separator, index_col=False, **options)
