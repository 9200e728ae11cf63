"""One scan of any format as region series: NIfTI, CIFTI, tables, NPY, MAT, the original's HDF5."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fmrilm.atlases.atlas import Atlas
from fmrilm.atlases.images import find_image
from fmrilm.cohort.foreign import ORIGINAL_T_R
from fmrilm.errors import InputError
from fmrilm.preparation.sources.cifti import read_dense, read_parcellated
from fmrilm.preparation.sources.parcellate import Parcellated, parcellate_nifti
from fmrilm.preparation.sources.region_tables import by_name, by_order, read_region_table
from fmrilm.readers import reading
from fmrilm.tables.hdf5 import find_item, open_hdf5, read_numbers

TABLES = (".tsv", ".csv", ".txt", ".1D")
IMAGES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class ScanFile:
    """Where one scan lies and what is known of it before it is opened."""

    subject: str
    session: str
    path: Path
    index: int | None = None  # of the sample, in an HDF5 store
    t_r: float | None = None  # seconds, from the sidecar
    mask: Path | None = None  # brain mask
    confounds: Path | None = None  # fMRIPrep's confounds table
    motion: Path | None = None  # XCP-D's motion table
    outliers: Path | None = None  # XCP-D's table of censored volumes


def read_series(
    scan: ScanFile,
    atlas: Atlas,
    atlas_image: str | None = None,
    min_coverage: float = 0.5,
    variable: str | None = None,
) -> Parcellated:
    """Return the region series of a scan, rows in the order of the atlas.

    Parameters
    ----------
    scan : ScanFile
        Its ending decides how it is read.
    atlas : Atlas
    atlas_image : str, optional
        Label image (NIfTI) or label file (``dlabel.nii``); needed for images and dense CIFTI.
    min_coverage : float
        Regions of which the scan holds less are absent.
    variable : str, optional
        Name of the array in a MAT file; None: its only two-dimensional one.

    Raises
    ------
    InputError
        If the file cannot be read, holds no volumes, or its regions are not those of the atlas.
    """
    if not scan.path.is_file():
        raise FileNotFoundError(f"{scan.path} not found")
    with reading(scan.path, "it is damaged, or no scan: get it again"):
        parcellated = _read_any(scan, atlas, atlas_image, min_coverage, variable)
    if parcellated.series.shape[1] == 0:
        raise InputError(f"{scan.path} holds no volumes: get it again")
    return parcellated


def _read_any(
    scan: ScanFile, atlas: Atlas, atlas_image: str | None, min_coverage: float, variable: str | None
) -> Parcellated:
    name = scan.path.name
    if name.endswith(".ptseries.nii"):
        return read_parcellated(scan.path, atlas)
    if name.endswith(".dtseries.nii"):
        return read_dense(scan.path, atlas, atlas_image, min_coverage)
    if name.endswith(IMAGES):
        image = find_image(atlas, atlas_image)
        return parcellate_nifti(scan.path, atlas, image, scan.mask, min_coverage)
    if name.endswith((".h5", ".hdf5")):
        return _read_store(scan, atlas)
    if name.endswith(TABLES):
        return read_region_table(scan.path, atlas)
    if name.endswith(".npy"):
        return by_order(_load_npy(scan.path), atlas, scan.path)
    if name.endswith(".mat"):
        return by_order(_load_mat(scan.path, variable), atlas, scan.path)
    raise InputError(f"{scan.path}: unknown format; use NIfTI, CIFTI, TSV, CSV, NPY, MAT or HDF5")


def _load_npy(path: Path) -> np.ndarray:
    try:  # mapped: a header that promises more than the file holds is seen before memory is taken
        values = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # a damaged header ends in whichever parser numpy gives it to
        raise InputError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, np.ndarray):
        raise InputError(f"{path} is an archive (NPZ): save its one array with numpy.save")
    return np.array(values)


def _load_mat(path: Path, variable: str | None) -> np.ndarray:
    from scipy.io import loadmat

    try:
        content: dict[str, Any] = loadmat(path)
    except NotImplementedError:  # version 7.3 is HDF5, transposed
        content = _load_hdf5_mat(path)
    except Exception as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    arrays = {
        key: value
        for key, value in content.items()
        if isinstance(value, np.ndarray)
        and value.ndim == 2
        and value.dtype.kind in "fiu"
        and min(value.shape) > 1
    }
    if variable is not None:
        if variable not in arrays:
            raise InputError(f"{path} has no array {variable!r}; it has: {', '.join(arrays)}")
        return arrays[variable]
    if len(arrays) != 1:
        raise InputError(
            f"{path} holds {len(arrays)} arrays ({', '.join(arrays) or 'none'}): "
            "choose one with variable=NAME"
        )
    return next(iter(arrays.values()))


def _load_hdf5_mat(path: Path) -> dict[str, np.ndarray]:
    with open_hdf5(path) as handle:
        items = {name: find_item(handle, name) for name in handle}
        return {
            name: read_numbers(item).T
            for name, item in items.items()
            if isinstance(item, h5py.Dataset) and item.ndim == 2 and item.dtype.kind in "fiu"
        }


def _read_store(scan: ScanFile, atlas: Atlas) -> Parcellated:
    from fmrilm.cohort.store import TimeSeriesStore

    store = TimeSeriesStore(scan.path)
    series, roi_mask = store.read(scan.index or 0)
    series = np.where(roi_mask[:, None], series, np.float32(np.nan))
    if store.roi_ids is not None:
        result = by_name(store.roi_ids, series, atlas, scan.path)
    elif len(series) == len(atlas):
        note = f"regions without names: taken to be in the order of {atlas.name}"
        result = Parcellated(series, np.ones(len(series), np.float32), notes=[note])
    else:
        raise InputError(
            f"{scan.path} has {len(series)} regions, atlas {atlas.name} has {len(atlas)}"
        )
    result.coverage *= np.isfinite(result.series[:, 0])
    result.t_r = store.t_r
    if store.t_r is None:  # of the scanner the store says nothing: it was resampled
        result.t_r = ORIGINAL_T_R
        result.notes.append(f"TR {ORIGINAL_T_R:g} s: that of all stores without their own")
    return result
