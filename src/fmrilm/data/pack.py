"""A copy of a cohort's series for fast random access: scaled, checked, uncompressed, memory-mapped.

In ``data_packed``: ``series.npy`` float32, all samples one after the other, each (n_rois,
n_timepoints); ``index.npz`` with ``offsets``, ``lengths`` and ``masks``; ``pack.json``: which store
and which scaling it was made from.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmrilm.data.progress import track
from fmrilm.errors import InputError

if TYPE_CHECKING:
    from fmrilm.data.cohort import Cohort

PACK = "data_packed"


def pack(folder: str, *, norm: str | None = None) -> Path:
    """Write a packed copy of a cohort, which is then read instead of the HDF5 store.

    Scaling and checking are done once, here; reading a sample is then one copy from a memory map.

    Parameters
    ----------
    folder : str
        Cohort folder.
    norm : str, optional
        Scaling; None: what cohort.yaml says. With another scaling the copy is not used.

    Returns
    -------
    folder : Path
        The packed copy.

    Examples
    --------
    fmrilm pack data/UKB
    """
    from fmrilm.data.cohort import Cohort

    cohort = Cohort(folder, norm, packed=False)
    target, partial = cohort.folder / PACK, cohort.folder / f"{PACK}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    shapes = np.array([cohort.store.shape(index) for index in range(len(cohort))])
    offsets = np.concatenate([[0], shapes.prod(axis=1).cumsum()])
    flat = np.lib.format.open_memmap(
        partial / "series.npy", mode="w+", dtype=np.float32, shape=(int(offsets[-1]),)
    )
    masks = np.empty((len(cohort), cohort.store.n_rois), bool)
    for index in track(range(len(cohort)), "packing", len(cohort)):
        series, masks[index] = cohort.read(index)
        flat[offsets[index] : offsets[index + 1]] = series.ravel()
    flat.flush()
    del flat
    np.savez(partial / "index.npz", offsets=offsets, lengths=shapes[:, 1], masks=masks)
    origin = {"store": identity(cohort.store.path), "scaler": cohort.scaler.to_dict()}
    (partial / "pack.json").write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return target


def identity(path: Path) -> dict[str, int]:
    """Return what tells one state of a store from another."""
    state = path.stat()
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}


class PackedSeries:
    """Read access to a packed copy; one memory map per process.

    Parameters
    ----------
    folder : path
        ``data_packed``.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "series.npy"
        with np.load(folder / "index.npz", allow_pickle=False) as index:
            self._offsets = index["offsets"].tolist()
            self._lengths = index["lengths"].tolist()
            self._masks = index["masks"]
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


def open_pack(cohort: Cohort) -> PackedSeries | None:
    """Return the packed copy of a cohort; None if there is none with its scaling.

    Raises
    ------
    InputError
        If the store changed after it was packed.
    """
    folder = cohort.folder / PACK
    if not (folder / "pack.json").is_file():
        return None
    origin = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
    if origin["store"] != identity(cohort.store.path):
        raise InputError(
            f"{folder} was made from another state of {cohort.store.path.name}: run "
            f"`fmrilm pack {cohort.folder}` again, or delete it"
        )
    if origin["scaler"] != cohort.scaler.to_dict():
        return None
    return PackedSeries(folder)
