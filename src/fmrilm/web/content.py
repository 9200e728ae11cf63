"""Whether a file is what its name says and stays small when it is unpacked.

Readers take what a header promises: an image that says it is a terabyte, or a few kilobytes that
unpack to one, would have them ask for as much memory.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from fmrilm.errors import InputError

SCANS = (".nii.gz", ".nii", ".npy", ".mat", ".tsv", ".csv", ".txt", ".1d")
TABLE_BYTES = 64 * 2**20  # of a table; parsing takes ten times as much memory
CHUNK = 1 << 20
_HDF5 = b"\x89HDF\r\n\x1a\n"
_COMPRESSED = 15  # the type of a compressed element in a MAT file


def ending_of(name: str) -> str:
    """The ending of a file's name if it is one of a scan; empty otherwise."""
    lower = name.lower()
    return next((ending for ending in SCANS if lower.endswith(ending)), "")


def unpack(path: Path, most: int) -> Path:
    """Unpack a ``.gz`` beside itself and delete it.

    Parameters
    ----------
    path : Path
    most : int
        Bytes that it may unpack to.

    Raises
    ------
    InputError
        If it is no gzip file, damaged, or unpacks to more.
    """
    target, total = path.with_suffix(""), 0
    engine = zlib.decompressobj(wbits=31)
    with path.open("rb") as source, target.open("wb") as sink:
        while data := source.read(CHUNK):
            while data:
                if engine.eof:  # gzip files may be joined
                    engine = zlib.decompressobj(wbits=31)
                try:
                    piece = engine.decompress(data, CHUNK)
                except zlib.error:
                    raise InputError("the file is damaged, or no gzip file: get it again") from None
                total += len(piece)
                if total > most:
                    raise _too_large(most)
                sink.write(piece)
                data = engine.unused_data if engine.eof else engine.unconsumed_tail
    if not engine.eof:
        raise InputError("the file ends too early: get it again")
    path.unlink()
    return target


def check(path: Path, most: int) -> None:
    """Look whether a file is what its ending says, and small enough to be read.

    Parameters
    ----------
    path : Path
        Unpacked.
    most : int
        Bytes that its content may take.

    Raises
    ------
    InputError
        If it is not.
    """
    with path.open("rb") as file:
        CHECKS[path.suffix.lower()](file, path.stat().st_size, most)


def _too_large(most: int) -> InputError:
    return InputError(f"the file unpacks to more than {most / 2**20:.0f} MB: cut it to a run")


def _nifti(file: BinaryIO, size: int, most: int) -> None:
    header = file.read(544)
    for order in "<>":
        if len(header) >= 352 and struct.unpack(f"{order}i", header[:4]) == (348,):
            shape = struct.unpack(f"{order}8h", header[40:56])
            (bits,) = struct.unpack(f"{order}h", header[72:74])
            (offset,) = struct.unpack(f"{order}f", header[108:112])
            is_nifti = header[344:347] == b"n+1"
        elif len(header) >= 540 and struct.unpack(f"{order}i", header[:4]) == (540,):
            (bits,) = struct.unpack(f"{order}h", header[14:16])
            shape = struct.unpack(f"{order}8q", header[16:80])
            (offset,) = struct.unpack(f"{order}q", header[168:176])
            is_nifti = header[4:7] == b"n+2"
        else:
            continue
        if not is_nifti or not 1 <= shape[0] <= 7:
            break
        values = 1
        for count in shape[1 : shape[0] + 1]:
            values *= max(count, 0)
        if not 0 <= offset <= size or offset + values * max(bits, 0) // 8 > size:
            raise InputError("the image is shorter than its header says: get it again")
        return
    raise InputError("the file is no NIfTI or CIFTI image, whatever its name says")


def _npy(file: BinaryIO, size: int, most: int) -> None:
    if file.read(6) != b"\x93NUMPY":
        raise InputError("the file is no NPY array, whatever its name says")


def _mat(file: BinaryIO, size: int, most: int) -> None:
    head = file.read(520)
    if _HDF5 in (head[:8], head[512:520]):
        _hdf5(file, most)
    elif head.startswith(b"MATLAB 5.0") and len(head) >= 128:
        _mat5(file, "<" if head[126:128] == b"IM" else ">", most)
    else:
        raise InputError("the file is no MAT file of version 5 to 7.3, whatever its name says")


def _mat5(file: BinaryIO, order: str, most: int) -> None:
    """Count what the compressed elements of a MAT file unpack to."""
    file.seek(128)
    total = 0
    while len(tag := file.read(8)) == 8:
        kind, count = struct.unpack(f"{order}2I", tag)
        if kind != _COMPRESSED:
            file.seek(count, 1)
            continue
        engine, left = zlib.decompressobj(), count
        while left > 0 and (data := file.read(min(CHUNK, left))):
            left -= len(data)
            while data:
                try:
                    total += len(engine.decompress(data, CHUNK))
                except zlib.error:
                    raise InputError("the MAT file is damaged: get it again") from None
                if total > most:
                    raise _too_large(most)
                data = engine.unconsumed_tail


def _hdf5(file: BinaryIO, most: int) -> None:
    """Add up the arrays of an HDF5 file, which may be stored as nothing at all."""
    import h5py

    total = 0

    def add(name: str, item: object) -> None:
        nonlocal total
        if isinstance(item, h5py.Dataset):
            total += int(item.size or 0) * int(item.dtype.itemsize)

    file.seek(0)
    try:
        with h5py.File(file, "r") as handle:
            handle.visititems(add)
    except (OSError, RuntimeError, KeyError, ValueError):
        raise InputError("the MAT file is damaged: get it again") from None
    if total > most:
        raise _too_large(most)


def _table(file: BinaryIO, size: int, most: int) -> None:
    if size > TABLE_BYTES:
        raise InputError(f"a table may have {TABLE_BYTES / 2**20:.0f} MB at most: save it as NPY")
    while data := file.read(CHUNK):
        if b"\0" in data:
            raise InputError("the file is no table of text, whatever its name says")


CHECKS: dict[str, Callable[[BinaryIO, int, int], None]] = {
    ".nii": _nifti,
    ".npy": _npy,
    ".mat": _mat,
    **dict.fromkeys((".tsv", ".csv", ".txt", ".1d", ".json"), _table),
}
