"""HDF5 files from anywhere: only what lies in the file itself is read, faults are one sentence.

An external link, external raw data or a virtual data set names another file of the machine that
opens it; following one would copy that file's content into the output.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fmrilm.errors import InputError
from fmrilm.readers import reading

_REMEDY = "it is damaged: copy or download the file again"
_MOST = 2**34  # bytes of one data set
_MOST_LINKS = 16  # soft links that point to soft links


def open_hdf5(path: Path) -> h5py.File:
    """Return an open HDF5 file.

    Raises
    ------
    InputError
        If the file is none, or it is damaged.
    """
    try:
        return h5py.File(path, "r")
    except OSError:
        raise InputError(
            f"{path} is not an HDF5 file, or it is damaged: copy or download it again"
        ) from None


def find_item(handle: h5py.File, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return what lies under a name in the file; None if there is nothing.

    Raises
    ------
    InputError
        If it, or a group above it, lies in another file.
    """
    with reading(handle.filename, _REMEDY):
        if not _is_local(handle, name):
            return None
        item = handle[name]
    if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
        raise InputError(_outside(handle, name))
    return item


def read_item(item: h5py.Dataset) -> Any:
    """Return the values of a data set.

    Raises
    ------
    InputError
        If they are compressed by a filter that this installation of HDF5 lacks, or damaged.
    """
    where = f"{item.file.filename}: {item.name.lstrip('/')}"
    settings = item.id.get_create_plist()
    for position in range(settings.get_nfilters()):
        code = settings.get_filter(position)[0]
        if not h5py.h5z.filter_avail(code):
            raise InputError(
                f"{where} is compressed by HDF5 filter {code}, which is not installed here: write "
                "the file again with gzip (h5repack -f GZIP=4)"
            )
    if item.nbytes > _MOST:
        raise InputError(
            f"{where} claims to hold {item.nbytes / 2**30:.0f} GB, more than any scan: {_REMEDY}"
        )
    with reading(where, _REMEDY):
        return item[()]


def read_numbers(item: h5py.Dataset) -> np.ndarray:
    """Return the values of a data set of real numbers."""
    if item.dtype.kind not in "fiu":
        raise InputError(
            f"{item.file.filename}: {item.name.lstrip('/')} holds {item.dtype} values, not numbers"
        )
    return read_item(item)


def read_words(item: h5py.Dataset) -> list[str]:
    """Return the values of a data set as words: text, or whole numbers as text.

    Raises
    ------
    InputError
        If the data set has more than one column, or its text is not UTF-8.
    """
    where = f"{item.file.filename}: {item.name.lstrip('/')}"
    values = np.atleast_1d(np.asarray(read_item(item), dtype=object))
    if values.size != max(values.shape):
        raise InputError(f"{where} has the shape {item.shape}, expected one value per sample")
    try:
        return [_word(value) for value in values.ravel()]
    except UnicodeDecodeError:
        raise InputError(f"{where} holds text that is not UTF-8: write it again in UTF-8") from None


def _word(value: Any) -> str:
    if isinstance(value, bytes):
        return value.rstrip(b"\0").decode("utf-8")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))  # ids that were read as numbers
    return str(value)


def _is_local(handle: h5py.File, name: str) -> bool:
    """Return whether there is something under a name; refuse links to other files."""
    parts, group = [part for part in name.split("/") if part], handle
    position = links = 0
    while position < len(parts):
        link = group.get(parts[position], getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            return False
        links += isinstance(link, h5py.SoftLink)
        if isinstance(link, h5py.ExternalLink) or links > _MOST_LINKS:
            raise InputError(_outside(handle, name))
        if isinstance(link, h5py.SoftLink):
            target = posixpath.join(group.name, link.path, *parts[position + 1 :])
            parts, group = posixpath.normpath(target).strip("/").split("/"), handle
            position = 0
        else:
            group, position = group[parts[position]], position + 1
    return True


def _outside(handle: h5py.File, name: str) -> str:
    return (
        f"{handle.filename}: {name} is a link to another file, which is not followed: copy the "
        "values into the file (h5repack, or h5py's copy with expand_external=True)"
    )
