"""Crash-safe building of a store: one small file per finished scan, joined when all are there.

A part appears under its name only when it is complete, and so does the store; a process killed at
any moment leaves finished parts and the old store as they were. The scans stand in the order of
their ids, whoever finished first and however often the job was restarted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.atlases.atlas import Atlas
from fmrilm.cohort.store import TimeSeriesStore, write_store
from fmrilm.preparation.scan import Piece, PreparedScan, PrepareSettings
from fmrilm.preparation.sources.read import ScanFile
from fmrilm.readers import read_arrays, reading

PARTS = "parts"  # folder beside the store, removed when the store is complete


def fingerprint(scan: ScanFile, settings_hash: str) -> str:
    """Return a hash of all that decides what a scan becomes: file, size, change time, settings."""
    words = [settings_hash, scan.subject, scan.session, str(scan.index), str(scan.t_r)]
    for path in (scan.path, scan.mask, scan.confounds, scan.motion, scan.outliers):
        if path is not None:
            state = path.stat()
            words.append(f"{path.name} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256("|".join(words).encode()).hexdigest()[:20]


def hash_settings(settings: PrepareSettings, atlas: Atlas, image: Path | None) -> str:
    """Return a hash of the settings, the regions and the label image."""
    words = [repr(settings), atlas.content_hash]
    if image is not None:
        words.append(hashlib.sha256(image.read_bytes()).hexdigest())
    return hashlib.sha256("|".join(words).encode()).hexdigest()[:20]


def part_path(folder: Path, scan: ScanFile, mark: str) -> Path:
    """Return where the part of a scan lies; the name changes with the fingerprint."""
    key = hashlib.sha256(f"{scan.subject}|{scan.session}".encode()).hexdigest()[:16]
    return folder / PARTS / f"{key}-{mark}.npz"


def write_part(path: Path, prepared: PreparedScan) -> None:
    """Write one finished scan; it appears under its name only when it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        arrays: dict[str, Any] = {
            "coverage": prepared.coverage,
            "sessions": np.array([piece.session for piece in prepared.pieces], dtype=str),
            "facts": np.array(json.dumps(prepared.facts)),
        }
        for i, piece in enumerate(prepared.pieces):
            arrays |= {f"piece_{i}": piece.series, f"censored_{i}": piece.censored}
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_part(path: Path) -> PreparedScan:
    """Return what :func:`write_part` wrote."""
    remedy = "delete it, it is made again"
    values = read_arrays(path, ("sessions", "coverage", "facts"), remedy)
    with reading(path, remedy):
        pieces = [
            Piece(str(session), values[f"piece_{i}"], values[f"censored_{i}"])
            for i, session in enumerate(values["sessions"])
        ]
        return PreparedScan(pieces, values["coverage"], json.loads(str(values["facts"])))


class OldStore:
    """The scans that an earlier run already put into the store.

    Parameters
    ----------
    path : Path
        The store; it may not exist.
    """

    def __init__(self, path: Path) -> None:
        self._rows: dict[str, list[int]] = {}
        self._store: TimeSeriesStore | None = None
        if not path.is_file():
            return
        store = TimeSeriesStore(path)
        marks, facts = store.extra("fingerprints"), store.extra("facts")
        if marks is None or facts is None:
            return  # not made by prepare: nothing in it can be compared
        self._store, self._facts = store, facts
        coverage = store.extra("coverage")
        assert coverage is not None
        self._coverage = coverage
        for row, mark in enumerate(marks):
            self._rows.setdefault(str(mark), []).append(row)

    @property
    def marks(self) -> dict[str, list[int]]:
        """Fingerprint of each scan in it -> its rows, in the order of the store."""
        return self._rows

    def read(self, mark: str) -> PreparedScan:
        """Return a scan as it was prepared."""
        assert self._store is not None
        rows = self._rows[mark]
        store = self._store
        pieces = [Piece(store.sessions[i], store.raw(i), store.censored(i)) for i in rows]
        return PreparedScan(pieces, self._coverage[rows[0]], json.loads(str(self._facts[rows[0]])))


def join_parts(
    store_path: Path,
    scans: Sequence[tuple[ScanFile, str]],
    atlas: Atlas,
    settings: PrepareSettings,
    source: str,
) -> None:
    """Write the store of the finished scans, unless it is there already, and remove the parts.

    Parameters
    ----------
    store_path : Path
    scans : sequence of (ScanFile, str)
        Scans and their fingerprints, in the order of the store; those without a part that are not
        in the old store either are left out.
    atlas : Atlas
    settings : PrepareSettings
    source : str
        Where the series come from, in words.
    """
    folder = store_path.parent
    old = OldStore(store_path)
    wanted = [mark for scan, mark in scans if part_path(folder, scan, mark).is_file()]
    if not wanted and [mark for _, mark in scans if mark in old.marks] == list(old.marks):
        shutil.rmtree(folder / PARTS, ignore_errors=True)
        return
    extra: dict[str, Any] = {"coverage": [], "fingerprints": [], "facts": [], "censored": []}
    extra["preparation"] = repr(settings)

    def samples() -> Iterator[tuple[str, str, np.ndarray]]:
        for scan, mark in scans:
            path = part_path(folder, scan, mark)
            if path.is_file():
                prepared = read_part(path)
            elif mark in old.marks:
                prepared = old.read(mark)
            else:
                continue
            for piece in prepared.pieces:
                extra["coverage"].append(prepared.coverage.astype(np.float32))
                extra["fingerprints"].append(mark)
                extra["facts"].append(json.dumps({"scan_id": scan.session, **prepared.facts}))
                extra["censored"].append(piece.censored)
                yield scan.subject, piece.session, piece.series
        extra["censored"] = stack_censored(extra["censored"])

    write_store(
        store_path,
        samples(),
        t_r=settings.target_t_r,
        atlas=atlas.name,
        roi_ids=atlas.labels,
        source=source,
        extra=extra,
    )
    shutil.rmtree(folder / PARTS, ignore_errors=True)


def stack_censored(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Return masks of any length as one (n_samples, longest), False behind the end of each."""
    stacked = np.zeros((len(masks), max(map(len, masks), default=0)), bool)
    for row, mask in zip(stacked, masks, strict=True):
        row[: len(mask)] = mask
    return stacked


def scan_table(store: TimeSeriesStore) -> list[dict[str, Any]]:
    """Return the rows of ``scans.tsv``: what is known of every sample of a prepared store."""
    facts = store.extra("facts")
    assert facts is not None, "the store was not made by prepare"
    return [
        {
            "participant_id": store.subjects[row],
            "session_id": store.sessions[row],
            "timepoints": store.shape(row)[1],
            **json.loads(str(text)),
        }
        for row, text in enumerate(facts)
    ]
