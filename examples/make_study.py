"""Write a small made-up study as fMRIPrep would leave it: images, masks, sidecars, confounds.

    python examples/make_study.py study

24 regions in three networks, TR 0.8 s. The networks of men and women are coupled differently, so
there is something to learn. Nothing here was measured.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path

import nibabel
import numpy as np

GRID = (4, 3, 2)  # regions along x, y, z
SIZE = 3  # voxels along the side of a region
GAP = 1  # voxels between regions
VOXEL = 4.0  # mm
T_R = 0.8  # seconds
NETWORKS = ("Visual", "Motor", "Default")
SPACE = "space-MNI152NLin6Asym"


def write_atlas(folder: Path) -> None:
    """Write ``atlas.tsv`` and ``atlas.nii.gz``: one block of voxels per region."""
    shape = tuple(count * (SIZE + GAP) + 2 for count in GRID)
    labels = np.zeros(shape, np.int16)
    lines = ["label\tname\tnetwork\themisphere"]
    for label, place in enumerate(np.ndindex(*GRID), start=1):
        start = np.array(place) * (SIZE + GAP) + 1
        block = tuple(slice(first, first + SIZE) for first in start)
        labels[block] = label
        side = "L" if place[0] < GRID[0] // 2 else "R"
        lines.append(f"{label}\tregion{label}\t{NETWORKS[place[1]]}\t{side}")
    (folder / "atlas.tsv").write_text("\n".join(lines) + "\n")
    nibabel.save(nibabel.Nifti1Image(labels, affine()), folder / "atlas.nii.gz")


def affine() -> np.ndarray:
    """Return the voxel-to-mm matrix; the blocks lie around the origin."""
    matrix = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
    matrix[:3, 3] = -VOXEL * np.array(GRID) * (SIZE + GAP) / 2
    return matrix


def draw_series(is_female: bool, volumes: int, rng: np.random.Generator) -> np.ndarray:
    """Return slow series (n_regions, volumes); coupling of two networks depends on sex."""
    network = np.array([place[1] for place in np.ndindex(*GRID)])
    noise = rng.standard_normal((len(NETWORKS) + len(network), volumes + 20))
    slow = np.apply_along_axis(np.convolve, 1, noise, np.hanning(12), "valid")[:, :volumes]
    latent, private = slow[: len(NETWORKS)], slow[len(NETWORKS) :]
    strength = 0.8 if is_female else -0.8
    latent[2] = strength * latent[0] + 0.6 * latent[2]
    return 1000 + 10 * (latent[network] + 0.7 * private)


def write_scan(folder: Path, name: str, series: np.ndarray, rng: np.random.Generator) -> None:
    """Write one run as fMRIPrep names it."""
    labels = np.asarray(nibabel.load(folder.parents[4] / "atlas.nii.gz").dataobj)
    image = 5 * rng.standard_normal((*labels.shape, series.shape[1])).astype(np.float32) + 500
    image[labels > 0] += series[labels[labels > 0] - 1] - 500
    folder.mkdir(parents=True, exist_ok=True)
    nifti = nibabel.Nifti1Image(image.astype(np.int16), affine())
    nifti.header.set_zooms((VOXEL, VOXEL, VOXEL, T_R))
    nifti.header.set_xyzt_units("mm", "sec")
    nibabel.save(nifti, folder / f"{name}_{SPACE}_desc-preproc_bold.nii.gz")
    mask = nibabel.Nifti1Image(np.ones(labels.shape, np.uint8), affine())
    nibabel.save(mask, folder / f"{name}_{SPACE}_desc-brain_mask.nii.gz")
    sidecar = {"RepetitionTime": T_R, "SkullStripped": False}
    (folder / f"{name}_{SPACE}_desc-preproc_bold.json").write_text(json.dumps(sidecar))
    fd = rng.gamma(2, 0.06, series.shape[1])
    motion = 0.05 * rng.standard_normal((6, series.shape[1])).cumsum(1)
    names = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    columns: dict[str, np.ndarray] = {"framewise_displacement": fd}
    for name_, values in zip(names, motion, strict=True):
        change = np.gradient(values)
        columns[name_] = values
        columns[f"{name_}_derivative1"] = change
        columns[f"{name_}_power2"] = values**2
        columns[f"{name_}_derivative1_power2"] = change**2
    for name_ in ("csf", "white_matter", "global_signal"):
        columns[name_] = 500 + rng.standard_normal(series.shape[1])
    more, metadata = draw_confounds(name, columns)
    columns |= more
    for number in range(3):
        columns[f"cosine{number:02d}"] = np.cos(np.pi * (number + 1) * np.linspace(0, 1, len(fd)))
    table = ["\t".join(columns)]
    table += ["\t".join(f"{v:.6f}" for v in row) for row in zip(*columns.values(), strict=True)]
    (folder / f"{name}_desc-confounds_timeseries.tsv").write_text("\n".join(table) + "\n")
    (folder / f"{name}_desc-confounds_timeseries.json").write_text(json.dumps(metadata, indent=2))


def draw_confounds(
    name: str, columns: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """Return what else fMRIPrep writes: tissue expansions, DVARS, CompCor and its sidecar.

    Two volumes moved: framewise displacement (changed in place) and DVARS are high there.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    volumes = len(columns["framewise_displacement"])
    more: dict[str, np.ndarray] = {}
    for tissue in ("csf", "white_matter", "global_signal"):
        change = np.gradient(columns[tissue])
        more[f"{tissue}_derivative1"] = change
        more[f"{tissue}_power2"] = columns[tissue] ** 2
        more[f"{tissue}_derivative1_power2"] = change**2
    more["std_dvars"] = 1 + 0.1 * rng.standard_normal(volumes)
    moved = rng.choice(np.arange(20, volumes - 20), 2, replace=False)
    columns["framewise_displacement"][moved] = 0.8
    more["std_dvars"][moved] = 2.0
    metadata = {}
    for kind, masks in (("a", ("combined", "WM", "CSF")), ("t", (None,))):
        for number in range(3 * len(masks)):
            column = f"{kind}_comp_cor_{number:02d}"
            more[column] = rng.standard_normal(volumes)
            method = "aCompCor" if kind == "a" else "tCompCor"
            metadata[column] = {"Method": method, "Retained": True}
            if kind == "a":
                metadata[column]["Mask"] = masks[number // 3]
    return more, metadata


def make_study(
    folder: str | Path, subjects: int = 40, volumes: int = 120, seed: int = 0
) -> dict[tuple[str, str], np.ndarray]:
    """Write the study and return the true series of every (subject, session)."""
    folder = Path(folder)
    derivatives = folder / "derivatives" / "fmriprep"
    derivatives.mkdir(parents=True)
    description = {"Name": "made up", "BIDSVersion": "1.9.0", "DatasetType": "derivative"}
    (derivatives / "dataset_description.json").write_text(json.dumps(description))
    write_atlas(folder)
    rng = np.random.default_rng(seed)
    rows, truth = ["participant_id\tage\tsex\tsite\tscore"], {}
    for number in range(1, subjects + 1):
        subject, is_female = f"sub-{number:02d}", number % 2 == 0
        rows.append(
            f"{subject}\t{rng.integers(20, 70)}\t{'F' if is_female else 'M'}\t"
            f"{'ab'[number % 3 == 0]}\t{rng.normal(100, 15):.1f}"
        )
        for session in range(1, 3 if number % 4 == 0 else 2):
            name = f"{subject}_ses-{session}_task-rest"
            series = draw_series(is_female, volumes, rng)
            write_scan(derivatives / subject / f"ses-{session}" / "func", name, series, rng)
            truth[subject, f"ses-{session}"] = series
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return truth


if __name__ == "__main__":
    make_study(sys.argv[1] if len(sys.argv) > 1 else "study")
