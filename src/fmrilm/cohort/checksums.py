"""What the series of a store hash to: the content that every cache and every lineage is keyed on.

A store carries the checksums that were written with it (``metadata/checksums``), but a file can be
edited in place. What counts is therefore what is in the file now, read once per state of the file
(size, times, inode) and then kept in ``checksums.npz`` beside it, or in our own folder about a
cohort (``kept_in``). Where that cannot be written to they are kept in memory; the store itself is
never written to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fmrilm.cohort.store import RECORDED, TimeSeriesStore
from fmrilm.errors import InputError
from fmrilm.hashing import checksum, state_of
from fmrilm.progress import track
from fmrilm.readers import read_arrays

KEPT = "checksums.npz"  # beside the store: as they were last read
_MUCH = 2**28  # bytes from which reading them all takes long enough for a progress bar
_SETTLED = 2.0  # seconds: a file can change again within the resolution of its times
_known: dict[tuple[Path, tuple[int, ...]], list[str]] = {}  # of this process


def read_checksums(store: TimeSeriesStore) -> list[str]:
    """Return the checksum of every series that is in a store now, in its order."""
    state = state_of(store.path)
    key = (store.path.resolve(), state)
    kept = None if store.kept_in is None else store.kept_in / KEPT
    if key in _known:
        return _known[key]
    found = None if kept is None else _read_kept(kept, state)
    if found is None:
        started = time.time()
        found = _compute(type(store)(store.path))  # the open handle may be of a file since replaced
        if started - max(state[1:3]) / 1e9 < _SETTLED or state_of(store.path) != state:
            return found
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
        if kept is not None and os.access(kept.parent, os.W_OK):
            partial = kept.with_name(f"{kept.stem}.{os.getpid()}.partial.npz")
            np.savez(partial, state=np.array(state), checksums=np.array(found))
            os.replace(partial, kept)
    _known[key] = found
    return found


def _compute(store: TimeSeriesStore) -> list[str]:
    indices: Iterable[int] = range(len(store))
    if store.path.stat().st_size > _MUCH:
        indices = track(indices, f"checksums of {store.path.parent.name}", len(store))
    return [checksum(store.raw(index)) for index in indices]


def edited(store: TimeSeriesStore) -> list[int]:
    """Return the samples that are no longer what was written; none for a store without a record."""
    recorded = store.extra(RECORDED)
    if np.shape(recorded) != (len(store),):
        return []
    pairs = zip(recorded, read_checksums(store), strict=True)
    return [index for index, (before, now) in enumerate(pairs) if before != now]


def _read_kept(path: Path, state: tuple[int, ...]) -> list[str] | None:
    if not path.is_file():
        return None
    try:
        values = read_arrays(path, ("state", "checksums"))
    except InputError:
        return None  # a cache: what cannot be read is worked out again
    same = tuple(np.atleast_1d(values["state"]).tolist()) == state
    return values["checksums"].tolist() if same else None
