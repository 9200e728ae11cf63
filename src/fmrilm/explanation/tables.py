"""What `fmrilm explain` finds per region and per network, as tables and as an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fmrilm.errors import InputError
from fmrilm.explanation.attribution import RegionMap

if TYPE_CHECKING:
    from fmrilm.atlases.atlas import Atlas


def region_table(atlas: Atlas, found: RegionMap) -> pd.DataFrame:
    """Return one row per region, most telling first."""
    table = pd.DataFrame(
        {
            "label": atlas.labels,
            "name": atlas.names,
            "network": atlas.networks,
            "contrast": found.contrast,
            "z": found.z,
        }
    )
    return table.sort_values("contrast", ascending=False, kind="stable").reset_index(drop=True)


def network_table(regions: pd.DataFrame, lost: dict[str, float]) -> pd.DataFrame:
    """Return one row per network: share of all contrast, mean per region, loss when taken away."""
    total = float(regions["contrast"].sum())
    groups = regions[regions["network"] != ""].groupby("network")["contrast"]
    table = pd.DataFrame({"regions": groups.size(), "mean": groups.mean(), "sum": groups.sum()})
    table["share"] = table["sum"] / total if abs(total) > 1e-12 else np.nan
    table["lost_without"] = [lost.get(name, np.nan) for name in table.index]
    return table.sort_values("mean", ascending=False).reset_index()


def write_nifti(labels_img: Path, regions: pd.DataFrame, path: Path) -> None:
    """Write each region's contrast into its voxels.

    Raises
    ------
    FileNotFoundError
        If there is no label image.
    InputError
        If the image has none of the atlas' labels.
    """
    if not labels_img.is_file():
        raise FileNotFoundError(f"{labels_img} not found: give the label image of the atlas")
    import nibabel

    image = nibabel.Nifti1Image.from_filename(labels_img)
    labels = np.asarray(image.dataobj).astype(int)
    filled = np.zeros(labels.shape, dtype=np.float32)
    hits = 0
    for label, value in zip(regions["label"], regions["contrast"], strict=True):
        voxels = (labels == int(label)) & (labels != 0)  # 0 is outside the brain
        hits += bool(voxels.any())
        filled[voxels] = value
    if hits == 0:
        raise InputError(f"{labels_img} has none of the atlas' region labels")
    nibabel.save(nibabel.Nifti1Image(filled, image.affine), path)
