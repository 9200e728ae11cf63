"""``fmrilm pack``: a copy of a cohort's series for fast random access, scaled and checked once."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.packed import PACK
from fmrilm.hashing import state_of
from fmrilm.locks import writing
from fmrilm.progress import track


def pack(folder: str, *, norm: str | None = None, state: Path | None = None) -> Path:
    """Write a packed copy of a cohort, which is then read instead of the HDF5 store.

    Scaling and checking are done once, here; reading a sample is then one copy from a memory map.

    Parameters
    ----------
    folder : str
        Cohort folder.
    norm : str, optional
        Scaling; None: what cohort.yaml says. With another scaling the copy is not used.
    state : path, optional
        Folder for the copy if the cohort's is not ours to write to (data.state_dir/COHORT).

    Returns
    -------
    folder : Path
        The packed copy.

    Raises
    ------
    InputError
        If another process writes into the folder: two would write one copy.

    Examples
    --------
    fmrilm pack data/UKB
    """
    cohort = Cohort(folder, norm, packed=False, state=state)
    place = cohort.writable("a packed copy")
    with writing(place):
        return _pack(cohort, place)


def _pack(cohort: Cohort, place: Path) -> Path:
    target, partial = place / PACK, place / f"{PACK}.partial"
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
    silent = np.flatnonzero(~masks.any(axis=1))
    if len(silent):
        names = ", ".join(cohort.store.subjects[index] for index in silent[:3])
        more = ", ..." if len(silent) > 3 else ""
        print(
            f"note: {len(silent)} of {len(cohort)} scans have no region with a signal "
            f"({names}{more}): prepare them again, or drop them",
            file=sys.stderr,
        )
    np.savez(partial / "index.npz", offsets=offsets, lengths=shapes[:, 1], masks=masks)
    origin = {
        "state": list(state_of(cohort.store.path)),
        "scans": cohort.fingerprints()["scans"],
        "scaling": cohort.scaling_fingerprint(),
    }
    (partial / "pack.json").write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return target
