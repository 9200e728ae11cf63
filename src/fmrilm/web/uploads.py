"""Files that are sent to the server: streamed into a folder that is emptied once they are read.

Nothing of a sender's file name is kept but what kind of file it is.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import HTTPException

from fmrilm.errors import InputError
from fmrilm.web.content import SCANS, check, ending_of, unpack

UNPACKED = 4  # times the size of an upload that it may unpack to
MOST_FILES = 3  # a scan, its confounds, its sidecar
AT_ONCE = 8  # uploads that may lie in the folder
MOST_HEADER, MOST_HEADERS = 4096, 8  # bytes of a header of a part, and headers
IDLE = 30.0  # seconds without a byte after which a sender is given up
STEM = "sub-upload"  # the files get names of BIDS, so that tables beside an image are taken up
SIDECAR = "sidecar.json"
FORMATS = "NIfTI, CIFTI, TSV, CSV, TXT, 1D, NPY or MAT"


class Uploads:
    """The folder of all uploads.

    Parameters
    ----------
    most : int
        Bytes of one upload.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._folder = tempfile.TemporaryDirectory(prefix="fmrilm-web-")
        self._held: set[Path] = set()

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return Path(self._folder.name)

    def close(self) -> None:
        """Delete everything."""
        self._folder.cleanup()

    def drop(self, place: Path) -> None:
        """Delete one upload."""
        shutil.rmtree(place, ignore_errors=True)
        self._held.discard(place)

    async def receive(self, content_type: str, stream: AsyncIterator[bytes]) -> Path:
        """Write a multipart request into a folder of its own.

        Parameters
        ----------
        content_type : str
            The header, which holds the boundary.
        stream : async iterator of bytes

        Returns
        -------
        place : Path
            To be given to :func:`scan_in`, and in the end to :meth:`drop`.

        Raises
        ------
        HTTPException
            If it is no upload of a scan, stalls, or there are too many.
        """
        if len(self._held) >= AT_ONCE:
            raise HTTPException(503, "too many uploads at once", {"Retry-After": "5"})
        boundary = re.match(r"multipart/form-data;.*boundary=\"?([^\";]{1,70})", content_type, re.I)
        if boundary is None:
            raise HTTPException(415, "send the file as multipart/form-data")
        place = Path(tempfile.mkdtemp(dir=self.folder))
        self._held.add(place)
        try:
            await _write(_Parts(place, boundary[1].encode("latin-1")), stream)
        except BaseException:
            self.drop(place)
            raise
        return place


async def _write(parts: _Parts, stream: AsyncIterator[bytes]) -> None:
    from python_multipart.exceptions import MultipartParseError
    from starlette.requests import ClientDisconnect

    pieces = aiter(stream)
    try:
        while True:
            try:
                piece = await asyncio.wait_for(anext(pieces), IDLE)
            except StopAsyncIteration:
                break
            await asyncio.to_thread(parts.write, piece)
        parts.finish()
    except ClientDisconnect:
        raise HTTPException(400, "the upload ended too early") from None
    except MultipartParseError:
        raise HTTPException(400, "the upload is no multipart/form-data") from None
    except TimeoutError:
        raise HTTPException(408, "the upload stalled") from None
    except InputError as error:
        raise HTTPException(415, str(error)) from None
    finally:
        parts.close()


class _Parts:
    """Writes the files of a multipart body as they come."""

    def __init__(self, place: Path, boundary: bytes) -> None:
        from python_multipart.multipart import MultipartParser

        self.place = place
        self._field = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._sink: BinaryIO | None = None
        self._has_scan = self._has_ended = False
        self._count = 0
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._open,
            "on_part_data": self._data,
            "on_part_end": self.close,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def write(self, piece: bytes) -> None:
        self._parser.write(piece)

    def finish(self) -> None:
        self._parser.finalize()
        if not self._has_ended:
            raise HTTPException(400, "the upload ended too early")
        if not self._has_scan:
            raise InputError(f"the upload holds no scan: {FORMATS}")

    def close(self) -> None:
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def _begin(self) -> None:
        self._headers = {}
        self._count += 1
        if self._count > MOST_FILES:
            raise InputError(f"send {MOST_FILES} files at most: a scan, its confounds, its sidecar")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]
        self._check_header()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._field) + len(self._value) > MOST_HEADER or len(self._headers) > MOST_HEADERS:
            raise InputError("the upload has headers that are too long")

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _open(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"").decode("utf-8", "replace")
        name = re.search(r'filename="((?:[^"\\]|\\.)*)"', disposition)
        if name is None:
            raise InputError("the upload holds a field that is no file")
        path = self.place / self._name_for(name[1])
        if path.exists():
            raise InputError("send one scan at a time")
        self._sink = path.open("wb")

    def _name_for(self, given: str) -> str:
        if given.lower().endswith(".json"):
            return SIDECAR
        if re.search(r"desc-confounds_(timeseries|regressors)\.tsv$", given):
            return f"{STEM}_desc-confounds_timeseries.tsv"
        ending = ending_of(given)
        if not ending:
            raise InputError(f"unknown kind of file; use {FORMATS}")
        if self._has_scan:
            raise InputError("send one scan at a time")
        self._has_scan = True
        cifti = re.search(r"\.(ptseries|dtseries)\.nii$", given.lower())
        ending = ".1D" if ending == ".1d" else ending  # as the readers know it
        kind = "denoised" if "desc-denoised" in given else "preproc"  # cleaned before, or not
        space = re.search(r"_space-[A-Za-z0-9]{1,40}(?=_)", given)
        stem = f"{STEM}{space[0] if space else ''}_desc-{kind}_bold"
        return f"{stem}{cifti[0] if cifti else ending}"

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._sink is not None:
            self._sink.write(data[start:end])

    def _end(self) -> None:
        self._has_ended = True


def scan_in(place: Path, most: int) -> Path:
    """The scan of an upload, unpacked and looked at.

    Parameters
    ----------
    place : Path
        From :meth:`Uploads.receive`.
    most : int
        Bytes that a file may take.

    Raises
    ------
    InputError
        If a file is not what its name says, or unpacks to more.
    """
    scan = None
    for path in sorted(place.iterdir()):
        file = unpack(path, most) if path.suffix == ".gz" else path
        check(file, most)
        if "_bold." in file.name and file.suffix.lower() in SCANS:
            scan = file
    if scan is None:
        raise InputError(f"the upload holds no scan: {FORMATS}")
    if (place / SIDECAR).is_file():
        (place / SIDECAR).rename(place / f"{scan.name.partition('.')[0]}.json")
    return scan
