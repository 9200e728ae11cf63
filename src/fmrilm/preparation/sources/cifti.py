"""CIFTI as region series: parcellated, or dense (grayordinates: vertices and voxels below).

Which label lies at which grayordinate is worked out once for all scans that share their brain
models, as those of a study do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.atlases.atlas import Atlas
from fmrilm.errors import InputError
from fmrilm.preparation.sources.parcellate import (
    FileState,
    Parcellated,
    add_rows,
    file_state,
    load_image,
)
from fmrilm.preparation.sources.region_tables import by_name

_Model = tuple[str, bool, bytes]  # structure, whether of its surface, vertices or voxels as int64


def read_dense(
    path: Path, atlas: Atlas, atlas_image: str | None, min_coverage: float
) -> Parcellated:
    """Average grayordinates by the labels of a ``dlabel.nii`` file, matched by place."""
    if atlas_image is None or not atlas_image.endswith(".dlabel.nii"):
        raise InputError(f"{path} is dense CIFTI: give its labels with atlas_image=FILE.dlabel.nii")
    labels_file = file_state(atlas_image)
    image, dense = load_image(path), _dense_labels(labels_file)
    found = _labels_at(labels_file, _brain_models(image))  # (n_grayordinates,), position or -1
    data = np.asarray(image.dataobj, np.float32)  # (n_timepoints, n_grayordinates)
    good = np.isfinite(data).all(0) & (np.ptp(data, axis=0) > 0) & (found >= 0)
    names, n_labels = dense.names, len(dense.names)
    counts = np.bincount(found[good], minlength=n_labels)
    share = (counts / np.maximum(dense.sizes, 1)).astype(np.float32)
    sums = np.zeros((n_labels, len(data)))
    add_rows(sums, found[good], data[:, good].T)
    present = (share >= min_coverage) & (counts > 0)
    series = np.full(sums.shape, np.nan, np.float32)
    series[present] = sums[present] / counts[present, None]
    labels = dense.keys
    result = by_name(names, series, atlas, path, keys=[str(label) for label in labels])
    shares = by_name(names, share[:, None], atlas, path, keys=[str(label) for label in labels])
    result.coverage = np.nan_to_num(shares.series[:, 0])
    result.t_r = _series_axis(image, path)
    return result


@dataclass(frozen=True)
class _DenseLabels:
    """A ``dlabel.nii`` file."""

    names: list[str]  # of all labels but 0, by key
    keys: list[int]
    sizes: np.ndarray  # grayordinates of each label
    position: dict[tuple[Any, ...], int]  # grayordinate -> position of its label


@lru_cache(maxsize=4)
def _dense_labels(file: FileState) -> _DenseLabels:
    image = load_image(Path(file[0]))
    table = image.header.get_axis(0).label[0]
    keys = sorted(int(key) for key in table if key != 0)
    rows = {key: row for row, key in enumerate(keys)}
    of_place = [rows.get(int(key), -1) for key in np.asarray(image.dataobj)[0]]
    position = dict(zip(_grayordinates(_brain_models(image)), of_place, strict=True))
    known = np.array([row for row in of_place if row >= 0], int)
    sizes = np.bincount(known, minlength=len(keys))
    return _DenseLabels([str(table[key][0]) for key in keys], keys, sizes, position)


@lru_cache(maxsize=4)
def _labels_at(file: FileState, models: tuple[_Model, ...]) -> np.ndarray:
    """Position of the label at each grayordinate of a scan, -1 where there is none."""
    position = _dense_labels(file).position
    return np.array([position.get(place, -1) for place in _grayordinates(models)], int)


def _brain_models(image: Any) -> tuple[_Model, ...]:
    """The brain models of a dense file, hashable: most scans of a study share them."""
    models = []
    for model in image.header.matrix.get_index_map(1).brain_models:
        on_surface = model.model_type == "CIFTI_MODEL_TYPE_SURFACE"
        places = model.vertex_indices if on_surface else model.voxel_indices_ijk
        flat = np.array(list(places), np.int64).tobytes()
        models.append((str(model.brain_structure), on_surface, flat))
    return tuple(models)


def _grayordinates(models: tuple[_Model, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield (structure, vertex) or (structure, i, j, k) of every grayordinate, in their order."""
    for structure, on_surface, flat in models:
        for place in np.frombuffer(flat, np.int64).reshape(-1, 1 if on_surface else 3).tolist():
            yield (structure, *place)


def _series_axis(image: Any, path: Path) -> float | None:
    from nibabel.cifti2 import SeriesAxis

    axis = image.header.get_axis(0)
    if not isinstance(axis, SeriesAxis):
        raise InputError(f"{path} has no time axis")
    return float(axis.step) if axis.unit == "SECOND" and axis.step > 0 else None


def read_parcellated(path: Path, atlas: Atlas) -> Parcellated:
    """The region series of a ``ptseries.nii`` file."""
    image = load_image(path)
    t_r = _series_axis(image, path)
    data = np.asarray(image.dataobj, np.float32)
    result = by_name([str(n) for n in image.header.get_axis(1).name], data.T, atlas, path)
    result.t_r = t_r
    return result
