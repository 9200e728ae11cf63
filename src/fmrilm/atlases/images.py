"""Label images: where they lie, and whether they fit the table of their atlas."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from fmrilm.atlases.atlas import Atlas, shipped_atlases
from fmrilm.errors import InputError
from fmrilm.registry import suggest

_FAR = 5.0  # mm between the centroid of a label and the one in the table


def load_atlas(name: str) -> Atlas:
    """Return the table of an atlas: one that comes with fmrilm, one that was built, a TSV file.

    Raises
    ------
    FileNotFoundError
        If a TSV file does not exist.
    InputError
        If no atlas has this name.
    """
    if name in shipped_atlases():
        return Atlas.load(name)
    if name.endswith(".tsv"):
        return Atlas.read(name)
    is_name = name == Path(name).name  # never a path below the cache, nor out of it
    if is_name and (built := cached_image(name).with_name(f"{name}.tsv")).is_file():
        return Atlas.read(built)
    raise InputError(
        f"unknown atlas {name!r}{suggest(name, shipped_atlases())}: build it with `fmrilm atlas "
        "build NAME`, or give a TSV file with label and name"
    )


def cached_image(name: str) -> Path:
    """Return where ``fmrilm atlas build`` puts a label image (``FMRILM_CACHE`` or ~/.cache)."""
    root = os.environ.get("FMRILM_CACHE") or Path.home() / ".cache" / "fmrilm"
    return Path(root) / "atlases" / f"{name}.nii.gz"


def find_image(atlas: Atlas, image: str | None) -> Path:
    """Return the label image of an atlas: the one given, else the one that was built.

    Raises
    ------
    InputError
        If there is none.
    """
    if image is not None:
        if not Path(image).is_file():
            raise FileNotFoundError(f"{image} not found: give the label image of {atlas.name}")
        return Path(image)
    path = cached_image(atlas.name)
    if not path.is_file():
        raise InputError(
            f"the label image of {atlas.name} is not built: run `fmrilm atlas build {atlas.name}`, "
            "or give your own with atlas_image=FILE"
        )
    return path


def image_space(path: Path) -> str | None:
    """Return the template that an image's name gives (``tpl-``, ``space-``), None if it says none.

    Schaefer's as ``fmrilm atlas build`` makes them are in MNI152NLin6Asym.
    """
    name = re.search(r"(?:^|_)(?:tpl|space)-([A-Za-z0-9]+)", path.name)
    if name is not None:
        return name[1]
    is_built = path.parent == cached_image("any").parent and path.name.startswith("schaefer")
    return "MNI152NLin6Asym" if is_built else None


def check_labels(labels: np.ndarray, affine: np.ndarray, atlas: Atlas) -> None:
    """Raise :class:`InputError` if a label is missing or lies far from its place in the table."""
    present = np.unique(labels[labels > 0])
    missing = sorted(set(map(int, atlas.labels)) - set(present.tolist()))
    if missing:
        raise InputError(f"the label image has no voxel of label {missing[0]} of {atlas.name}")
    found = centroids(labels, affine)
    for label, place, name in zip(atlas.labels, atlas.centroids, atlas.names, strict=True):
        if np.isnan(place).any():
            continue
        away = float(np.linalg.norm(found[int(label)] - place))
        if away > _FAR:
            raise InputError(
                f"label {label} ({name}) lies {away:.0f} mm from where the table of {atlas.name} "
                "says: this is another parcellation, or another order of it"
            )


def centroids(labels: np.ndarray, affine: np.ndarray) -> dict[int, np.ndarray]:
    """Return label -> centre of its voxels in mm."""
    where = np.argwhere(labels > 0)
    values = labels[tuple(where.T)]
    places = where @ affine[:3, :3].T + affine[:3, 3]
    sums = np.stack([np.bincount(values, places[:, axis]) for axis in range(3)], axis=1)
    counts = np.bincount(values)
    return {int(label): sums[label] / counts[label] for label in np.flatnonzero(counts)}
