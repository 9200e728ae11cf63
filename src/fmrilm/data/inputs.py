"""One scan of any format as region series: NIfTI, CIFTI, tables, NPY, MAT, the original's HDF5."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.data.atlas import Atlas
from fmrilm.data.atlas_volume import find_image
from fmrilm.data.parcellation import Parcellated, load_image, parcellate_nifti
from fmrilm.errors import InputError

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
        If the file cannot be read, or its regions are not those of the atlas.
    """
    name = scan.path.name
    if not scan.path.is_file():
        raise FileNotFoundError(f"{scan.path} not found")
    if name.endswith(".ptseries.nii"):
        return _read_ptseries(scan.path, atlas)
    if name.endswith(".dtseries.nii"):
        return _read_dtseries(scan.path, atlas, atlas_image, min_coverage)
    if name.endswith(IMAGES):
        image = find_image(atlas, atlas_image)
        return parcellate_nifti(scan.path, atlas, image, scan.mask, min_coverage)
    if name.endswith((".h5", ".hdf5")):
        return _read_store(scan, atlas)
    if name.endswith(TABLES):
        return _read_table(scan.path, atlas)
    if name.endswith(".npy"):
        return by_order(_load_npy(scan.path), atlas, scan.path)
    if name.endswith(".mat"):
        return by_order(_load_mat(scan.path, variable), atlas, scan.path)
    raise InputError(f"{scan.path}: unknown format; use NIfTI, CIFTI, TSV, CSV, NPY, MAT or HDF5")


def by_name(
    names: Sequence[str], series: np.ndarray, atlas: Atlas, source: Path, keys: Sequence[str] = ()
) -> Parcellated:
    """Return series ordered by region: ``names`` are labels or names of the atlas, in any order.

    Parameters
    ----------
    names : sequence of str
        One per row of ``series``.
    series : ndarray, shape (len(names), n_timepoints)
    atlas : Atlas
    source : Path
        For messages.
    keys : sequence of str
        Numbers of the rows, used as labels only if the rows have no names.
    """
    labels = {label: row for row, label in enumerate(atlas.labels)}
    titles: dict[str, int] = {}
    for row, title in enumerate(atlas.names):
        if atlas.names.count(title) == 1:  # a name that occurs twice identifies nothing
            titles[title.lower()] = row
    wanted: list[int | None] = [
        titles.get(name.strip().lower(), labels.get(name.strip())) for name in names
    ]
    if keys and all(not name or name == key for name, key in zip(names, keys, strict=True)):
        wanted = [labels.get(key) for key in keys]
    known = [row for row in wanted if row is not None]
    if not known:
        raise InputError(
            f"{source}: none of its regions ({', '.join(names[:3])}, ...) is in atlas {atlas.name} "
            f"({', '.join(atlas.names[:2])}, ...): give the atlas they belong to"
        )
    if len(set(known)) < len(known):
        raise InputError(f"{source}: a region of {atlas.name} occurs twice")
    ordered = np.full((len(atlas), series.shape[1]), np.nan, np.float32)
    for place, values in zip(wanted, series, strict=True):
        if place is not None:
            ordered[place] = values
    coverage = np.zeros(len(atlas), np.float32)
    coverage[known] = 1
    notes = []
    if len(known) < len(names):
        notes.append(f"{len(names) - len(known)} columns are no region of {atlas.name}, left out")
    if len(known) < len(atlas):
        notes.append(f"{len(atlas) - len(known)} regions absent")
    return Parcellated(ordered, coverage, notes=notes)


def by_order(series: np.ndarray, atlas: Atlas, source: Path) -> Parcellated:
    """Return series whose rows or columns have no names: one side must have as many as the atlas.

    Raises
    ------
    InputError
        If neither side has, or both.
    """
    if series.ndim != 2:
        raise InputError(f"{source} holds {series.ndim} dimensions, not regions x time")
    sides = [count == len(atlas) for count in series.shape]
    if sides == [True, True]:
        raise InputError(
            f"{source} is {series.shape[0]} x {series.shape[1]}: cannot tell regions from time, "
            "give a table whose columns are named"
        )
    if not any(sides):
        raise InputError(
            f"{source} is {series.shape[0]} x {series.shape[1]}, atlas {atlas.name} has "
            f"{len(atlas)} regions: give the atlas it belongs to"
        )
    ordered = np.asarray(series if sides[0] else series.T, np.float32)
    note = f"regions without names: taken to be in the order of {atlas.name}"
    return Parcellated(ordered, np.ones(len(atlas), np.float32), notes=[note])


def _read_table(path: Path, atlas: Atlas) -> Parcellated:
    text = path.read_text(encoding="utf-8-sig")
    first = text.split("\n", 1)[0]
    separator = "\t" if "\t" in first else "," if "," in first else None
    words = first.split() if separator is None else next(csv.reader([first], delimiter=separator))
    has_header = not all(_is_number(word) for word in words) or (
        [word.strip() for word in words] == list(atlas.labels)
    )
    lines = text.strip("\n").split("\n")[has_header:]
    rows = [line.split(separator) for line in lines if line.strip()]
    try:
        values = np.array(
            [[np.nan if word.strip() in ("n/a", "NaN", "") else float(word) for word in row]
             for row in rows]
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"{path} holds a value that is no number: {error}") from None
    if has_header:
        if values.ndim != 2 or values.shape[1] != len(words):
            raise InputError(f"{path}: the header has {len(words)} names, the rows do not")
        return by_name(words, values.T, atlas, path)
    return by_order(values, atlas, path)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _load_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def _load_mat(path: Path, variable: str | None) -> np.ndarray:
    from scipy.io import loadmat

    try:
        content: dict[str, Any] = loadmat(path)
    except NotImplementedError:  # version 7.3 is HDF5, transposed
        import h5py

        with h5py.File(path, "r") as handle:
            content = {
                key: value[()].T for key, value in handle.items() if isinstance(value, h5py.Dataset)
            }
    except Exception as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    arrays = {
        key: value
        for key, value in content.items()
        if getattr(value, "ndim", 0) == 2 and value.dtype.kind in "fiu" and min(value.shape) > 1
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


def _read_store(scan: ScanFile, atlas: Atlas) -> Parcellated:
    from fmrilm.data.store import TimeSeriesStore

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
    return result


def _series_axis(image: Any, path: Path) -> float | None:
    from nibabel.cifti2 import SeriesAxis

    axis = image.header.get_axis(0)
    if not isinstance(axis, SeriesAxis):
        raise InputError(f"{path} has no time axis")
    return float(axis.step) if axis.unit == "SECOND" and axis.step > 0 else None


def _read_ptseries(path: Path, atlas: Atlas) -> Parcellated:
    image = load_image(path)
    t_r = _series_axis(image, path)
    data = np.asarray(image.dataobj, np.float32)
    result = by_name([str(n) for n in image.header.get_axis(1).name], data.T, atlas, path)
    result.t_r = t_r
    return result


def _read_dtseries(
    path: Path, atlas: Atlas, atlas_image: str | None, min_coverage: float
) -> Parcellated:
    """Average grayordinates by the labels of a ``dlabel.nii`` file, matched by place."""
    if atlas_image is None or not atlas_image.endswith(".dlabel.nii"):
        raise InputError(f"{path} is dense CIFTI: give its labels with atlas_image=FILE.dlabel.nii")
    image, label_image = load_image(path), load_image(Path(atlas_image))
    label_axis = label_image.header.get_axis(0).label[0]
    keys = np.asarray(label_image.dataobj)[0].astype(int)
    place = {where: key for where, key in zip(_grayordinates(label_image), keys, strict=True)}
    found = np.array([place.get(where, 0) for where in _grayordinates(image)])
    data = np.asarray(image.dataobj, np.float32)  # (n_timepoints, n_grayordinates)
    usable = np.isfinite(data).all(0) & (np.ptp(data, axis=0) > 0)
    labels = [int(key) for key in sorted(label_axis) if key != 0]
    names = [str(label_axis[key][0]) for key in labels]
    series = np.full((len(labels), len(data)), np.nan, np.float32)
    share = np.zeros(len(labels), np.float32)
    for row, label in enumerate(labels):
        members = found == label
        good = members & usable
        total = int((keys == label).sum())
        share[row] = good.sum() / total if total else 0
        if share[row] >= min_coverage and good.any():
            series[row] = data[:, good].mean(1)
    result = by_name(names, series, atlas, path, keys=[str(label) for label in labels])
    shares = by_name(names, share[:, None], atlas, path, keys=[str(label) for label in labels])
    result.coverage = np.nan_to_num(shares.series[:, 0])
    result.t_r = _series_axis(image, path)
    return result


def _grayordinates(image: Any) -> list[tuple[str, ...]]:
    axis = image.header.get_axis(1)
    surface = axis.surface_mask
    return [
        (str(name), str(vertex)) if on_surface else (str(name), *map(str, voxel))
        for name, vertex, voxel, on_surface in zip(
            axis.name, axis.vertex, axis.voxel, surface, strict=True
        )
    ]
