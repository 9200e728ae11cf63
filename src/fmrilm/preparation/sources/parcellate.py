"""From a 4-D image to one series per region, by label, with the coverage of every region."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.atlases.atlas import Atlas
from fmrilm.errors import InputError
from fmrilm.readers import reading

_MOST_PACKED = 50  # times that a compressed scan may swell: real ones do 2 to 15 times
_SMALL = 2**28  # bytes below which it does not matter
_BLOCK = 64  # volumes read at a time
FileState = tuple[str, int, int]  # path, time of the last change (ns), bytes


@dataclass
class Parcellated:
    """Region series as they come out of one file.

    Attributes
    ----------
    series : ndarray of float32, shape (n_rois, n_timepoints)
        In the order of the atlas; a region that is absent is NaN throughout.
    coverage : ndarray of float32, shape (n_rois,)
        Share of the region that the scan holds, 0 to 1.
    t_r : float or None
        Seconds, from the header.
    notes : list of str
        What a reader should know.
    """

    series: np.ndarray
    coverage: np.ndarray
    t_r: float | None = None
    notes: list[str] = field(default_factory=list)


def parcellate_nifti(
    path: Path,
    atlas: Atlas,
    labels_img: Path,
    mask: Path | None = None,
    min_coverage: float = 0.5,
) -> Parcellated:
    """Return the mean series of every region of a 4-D NIfTI image in MNI space.

    The label image is resampled to the grid of the scan (nearest neighbour). A voxel counts if it
    is inside ``mask``, finite and not constant. The coverage of a region is the share of its voxels
    in the label image that lie at such a voxel of the scan, so it does not depend on the grids.

    Parameters
    ----------
    path : Path
        The scan.
    atlas : Atlas
        Regions to return, found in the label image by label, never by position.
    labels_img : Path
        Label image.
    mask : Path, optional
        Brain mask on the grid of the scan.
    min_coverage : float
        Regions with less are absent (NaN).

    Raises
    ------
    InputError
        If the image is not 4-D, the mask has another grid, or no region lies in the scan.
    """
    image = load_image(path)
    if len(image.shape) != 4 or image.shape[3] < 2:
        raise InputError(f"{path} has the shape {image.shape}, not (x, y, z, time)")
    shape, affine = image.shape[:3], image.affine
    labels = file_state(labels_img)
    grid = _labels_on_grid(labels, shape, affine.tobytes())
    hits, values = _label_hits(labels, shape, affine.tobytes())
    voxels = np.union1d(np.flatnonzero(grid.ravel(order="F")), hits[hits >= 0])
    data = _read_voxels(image, voxels)  # (n_voxels, n_timepoints)
    usable = np.isfinite(data).all(axis=1) & (np.ptp(data, axis=1) > 0)
    if mask is not None:
        usable &= _read_mask(mask, image).ravel(order="F")[voxels]

    position = {int(label): row for row, label in enumerate(atlas.labels)}
    lookup = np.full(int(grid.max(initial=0)) + 1, -1)
    for label, row in position.items():
        if label < len(lookup):
            lookup[label] = row
    rows = lookup[grid.ravel(order="F")[voxels]]
    counted = usable & (rows >= 0)
    sums = np.zeros((len(atlas), data.shape[1]), np.float64)
    add_rows(sums, rows[counted], data[counted])
    counts = np.bincount(rows[counted], minlength=len(atlas))
    series = np.full(sums.shape, np.nan, np.float32)
    good = np.zeros(grid.size + 1, bool)  # the last one: outside the scan
    good[voxels[usable]] = True
    coverage = _share(values, good[hits], atlas)
    present = (counts > 0) & (coverage >= min_coverage)
    if not present.any():
        raise InputError(f"{path}: no region of {atlas.name} lies in the scan: is it in MNI space?")
    series[present] = sums[present] / counts[present, None]
    result = Parcellated(series, coverage.astype(np.float32), header_t_r(image))
    if (~present).any():
        result.notes.append(f"{(~present).sum()} regions absent (coverage < {min_coverage:g})")
    return result


def file_state(path: str | Path) -> FileState:
    """The name and state of a file: a key under which what was read of it may be kept."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found")
    about = path.stat()
    return str(path), about.st_mtime_ns, about.st_size


def load_image(path: Path) -> Any:
    """Return the opened image (data are read later).

    Raises
    ------
    InputError
        If it is damaged or no image.
    """
    import nibabel

    try:
        image: Any = nibabel.load(path, keep_file_open=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} not found") from None
    except Exception as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from None
    _check_size(image, path)
    return image


def _check_size(image: Any, path: Path) -> None:
    """Refuse an image that claims far more values than its file can hold.

    Raises
    ------
    InputError
        For a header that promises what is not there, and for a compressed file that would swell
        beyond any scan (a bomb).
    """
    size = math.prod(image.shape) * image.get_data_dtype().itemsize
    there = path.stat().st_size
    is_packed = path.name.endswith((".gz", ".bz2", ".zst"))
    if size > there * (_MOST_PACKED if is_packed else 1) + _SMALL:
        raise InputError(
            f"{path} claims to hold {size / 2**30:.1f} GB in a file of {there / 2**20:.1f} MB: it "
            "is damaged or no scan: get it again"
        )


def header_t_r(image: Any) -> float | None:
    """Return the repetition time in seconds from a NIfTI header, None if it says none."""
    zooms = image.header.get_zooms()
    if len(zooms) < 4 or not zooms[3] > 0:
        return None
    unit = image.header.get_xyzt_units()[1]
    factor = {"msec": 1e-3, "usec": 1e-6}.get(unit, 1.0)
    value = float(zooms[3]) * factor
    # A header without a unit that says 2000 means milliseconds.
    return value / 1000 if unit == "unknown" and value > 100 else value


def _read_voxels(image: Any, voxels: np.ndarray) -> np.ndarray:
    """Return the chosen voxels (in Fortran order) as (n_voxels, n_timepoints), block by block."""
    count = image.shape[3]
    data = np.empty((len(voxels), count), np.float32)
    for start in range(0, count, _BLOCK):
        try:
            block = np.asanyarray(image.dataobj[..., start : start + _BLOCK])
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"{image.get_filename()} is damaged or cut short: {error}") from None
        flat = block.reshape(-1, block.shape[3], order="F")
        if flat.dtype.kind not in "fiub":
            raise InputError(f"{image.get_filename()} holds {flat.dtype} values, not real numbers")
        data[:, start : start + _BLOCK] = flat[voxels]
    return data


def add_rows(sums: np.ndarray, rows: np.ndarray, data: np.ndarray) -> None:
    """Add ``data[i]`` to ``sums[rows[i]]``."""
    from scipy.sparse import csr_matrix

    shape = (len(sums), len(rows))
    sums += csr_matrix((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=shape) @ data


def _read_mask(path: Path, image: Any) -> np.ndarray:
    with reading(path, "it is no brain mask: take it away, or make it again"):
        return _read_mask_of(path, image)


def _read_mask_of(path: Path, image: Any) -> np.ndarray:
    mask = load_image(path)
    if mask.shape[:3] != image.shape[:3] or not np.allclose(mask.affine, image.affine, atol=1e-3):
        raise InputError(f"the brain mask {path} has another grid than {image.get_filename()}")
    return np.asanyarray(mask.dataobj).reshape(mask.shape[:3]) > 0


@lru_cache(maxsize=4)
def _label_image(file: FileState) -> tuple[np.ndarray, np.ndarray]:
    with reading(file[0], "give another atlas_image"):
        return _read_labels(file[0])


def _read_labels(path: str) -> tuple[np.ndarray, np.ndarray]:
    image = load_image(Path(path))
    labels = np.asanyarray(image.dataobj)
    if labels.ndim == 4 and labels.shape[3] == 1:
        labels = labels[..., 0]
    if labels.ndim != 3 or not np.allclose(labels, np.round(labels)):
        raise InputError(f"{path} is not a 3-D image of whole-number labels")
    return labels.round().astype(np.int32), image.affine


@lru_cache(maxsize=4)
def _labels_on_grid(file: FileState, shape: tuple[int, ...], affine: bytes) -> np.ndarray:
    """Return the label at the centre of every voxel of a grid (0 outside the label image)."""
    labels, own = _label_image(file)
    matrix = np.frombuffer(affine).reshape(4, 4)
    if labels.shape == shape and np.allclose(own, matrix):
        return labels
    step = np.linalg.inv(own) @ matrix
    grid = np.zeros(shape, np.int32)
    plane = np.indices(shape[:2]).reshape(2, -1).T
    for z in range(shape[2]):
        corners = np.column_stack([plane, np.full(len(plane), z)])
        where = np.floor(corners @ step[:3, :3].T + step[:3, 3] + 0.5).astype(int)
        inside = ((where >= 0) & (where < labels.shape)).all(axis=1)
        values = np.zeros(len(plane), np.int32)
        values[inside] = labels[tuple(where[inside].T)]
        grid[:, :, z] = values.reshape(shape[:2])
    return grid


@lru_cache(maxsize=4)
def _label_hits(
    file: FileState, shape: tuple[int, ...], affine: bytes
) -> tuple[np.ndarray, np.ndarray]:
    """Return the grid voxel that each voxel of the label image hits (-1: none), and its label."""
    labels, own = _label_image(file)
    places = np.argwhere(labels > 0)
    step = np.linalg.inv(np.frombuffer(affine).reshape(4, 4)) @ own
    where = np.floor(places @ step[:3, :3].T + step[:3, 3] + 0.5).astype(int)
    inside = ((where >= 0) & (where < shape)).all(axis=1)
    hits = np.full(len(where), -1)
    hits[inside] = np.ravel_multi_index(tuple(where[inside].T), shape, order="F")
    return hits, labels[tuple(places.T)]


def _share(values: np.ndarray, covered: np.ndarray, atlas: Atlas) -> np.ndarray:
    """Return the share of each region's own voxels that are covered."""
    wanted = np.array([int(label) for label in atlas.labels])
    size = max(int(values.max()), int(wanted.max())) + 1
    total = np.bincount(values, minlength=size)
    seen = np.bincount(values[covered], minlength=size)
    return np.divide(seen, total, out=np.zeros(size), where=total > 0)[wanted]
