"""Reading a packed copy of a cohort's series: memory-mapped, scaled, checked.

In ``data_packed``: ``series.npy`` float32, all samples one after the other, each (n_rois,
n_timepoints); ``index.npz`` with ``offsets``, ``lengths`` and ``masks``; ``pack.json``: the
series and the scaling it was made from.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.errors import InputError
from fmrilm.hashing import state_of
from fmrilm.readers import check_types, read_arrays, read_json, reading

PACK = "data_packed"
_REMEDY = "run `fmrilm pack` again, or delete the folder"


class PackedSeries:
    """Read access to a packed copy; one memory map per process.

    Parameters
    ----------
    folder : path
        ``data_packed``.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "series.npy"
        index = read_arrays(folder / "index.npz", ("offsets", "lengths", "masks"), _REMEDY)
        with reading(folder, _REMEDY):
            self._offsets = index["offsets"].tolist()
            self._lengths = index["lengths"].tolist()
            self._masks = index["masks"]
            held = len(np.load(self._path, mmap_mode="r"))
            if held != self._offsets[-1]:
                raise InputError(
                    f"{self._path} holds {held} values, not {self._offsets[-1]}: {_REMEDY}"
                )
        self._map: np.ndarray | None = None
        self._pid = -1

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a scaled sample (n_rois, n_timepoints) and its mask of usable regions (copies)."""
        if self._map is None or self._pid != os.getpid():
            # A plain array over the map: indexing np.memmap itself costs more than the copy.
            self._map, self._pid = np.asarray(np.load(self._path, mmap_mode="r")), os.getpid()
        values = self._map[self._offsets[index] : self._offsets[index + 1]]
        return values.reshape(-1, self._lengths[index]).copy(), self._masks[index].copy()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None, "_pid": -1}


def open_packed(
    folder: Path, store: Path, scans: Callable[[], str], scaling: Callable[[], str]
) -> PackedSeries | None:
    """Open the packed copy of a cohort; None if there is none with its scaling.

    Parameters
    ----------
    folder : Path
        Where the copy would lie.
    store : Path
        The HDF5 file it was made from.
    scans, scaling : callable
        Give the fingerprints of the cohort's series and of its scaling, asked for when needed.

    Raises
    ------
    InputError
        If the series changed after they were packed.
    """
    if not (folder / "pack.json").is_file():
        return None
    origin = read_json(folder / "pack.json", _REMEDY)
    check_types(origin, {"scaling": str, "scans": str}, folder / "pack.json", _REMEDY)
    # A copy of the store has other times than the store itself: then the content decides.
    if origin.get("state") != list(state_of(store)) and origin.get("scans") != scans():
        raise InputError(
            f"{folder} was made from another state of {store.name}: run "
            f"`fmrilm pack {store.parent}` again, or delete it"
        )
    return PackedSeries(folder) if origin["scaling"] == scaling() else None
