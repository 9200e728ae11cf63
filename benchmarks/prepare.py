"""Time and peak memory of `fmrilm prepare` per scan of ordinary size, as the study grows.

    python benchmarks/prepare.py 10 30             # images
    python benchmarks/prepare.py --dense 10 30     # CIFTI of 91,282 grayordinates

A made-up fMRIPrep folder: 3 mm MNI grid (61 x 73 x 61), 160 volumes, TR 2 s, int16, compressed. All
scans are hard links of one file, since only time and memory are asked about.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np

SHAPE, VOLUMES, T_R = (61, 73, 61), 160, 2.0
SPACE = "space-MNI152NLin6Asym"
MEASURED = (
    "import resource, sys\nfrom fmrilm.preparation.prepare import prepare\n"
    "code = prepare(sys.argv[1], sys.argv[3:], output=sys.argv[2])\n"
    "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
)


def begin_study(root: Path, regions: int) -> Path:
    """Write the atlas's table and an empty derivative; return the derivative's folder."""
    lines = [f"{label}\tregion{label}\tNetwork{label % 7}" for label in range(1, regions + 1)]
    (root / "atlas.tsv").write_text("\n".join(["label\tname\tnetwork", *lines]) + "\n")
    derivatives = root / "derivatives"
    derivatives.mkdir()
    description = {"Name": "made up", "BIDSVersion": "1.9.0", "DatasetType": "derivative"}
    (derivatives / "dataset_description.json").write_text(json.dumps(description))
    return derivatives


def write_study(root: Path, subjects: int) -> Path:
    """Write the label image, its table and one run per subject; return the scans' folder."""
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-90, -126, -72)
    blocks = [np.arange(n) * 8 // n for n in SHAPE]
    labels = (blocks[0][:, None, None] * 8 + blocks[1][:, None]) * 8 + blocks[2] + 1
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.int16), affine), root / "atlas.nii.gz")
    rng = np.random.default_rng(0)
    values = (1000 + 20 * rng.standard_normal((*SHAPE, VOLUMES), np.float32)).astype(np.int16)
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_zooms((3.0, 3.0, 3.0, T_R))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.openers.Opener.default_compresslevel = 1
    nibabel.save(image, root / "bold.nii.gz")
    derivatives = begin_study(root, 8**3)
    for number in range(subjects):
        folder = derivatives / f"sub-{number:03d}" / "func"
        folder.mkdir(parents=True)
        stem = folder / f"sub-{number:03d}_task-rest_{SPACE}_desc-preproc_bold"
        os.link(root / "bold.nii.gz", f"{stem}.nii.gz")
        Path(f"{stem}.json").write_text(json.dumps({"RepetitionTime": T_R}))
    return derivatives


def write_dense_study(root: Path, subjects: int) -> Path:
    """Write label file, table and one dense CIFTI run per subject; return the scans' folder."""
    from nibabel import cifti2

    sizes = {"LEFT": 29_696, "RIGHT": 29_716}
    axis = None
    for side, size in sizes.items():
        name = f"CIFTI_STRUCTURE_CORTEX_{side}"
        part = cifti2.BrainModelAxis.from_surface(np.arange(size), 32_492, name)
        axis = part if axis is None else axis + part
    below = 91_282 - sum(sizes.values())
    places = np.stack(np.unravel_index(np.arange(below) * 25, (91, 109, 91)), 1)
    axis = axis + cifti2.BrainModelAxis(
        ["CIFTI_STRUCTURE_THALAMUS_LEFT"] * below, voxel=places,
        affine=np.diag([2.0, 2, 2, 1]), volume_shape=(91, 109, 91),
    )  # fmt: skip
    labels = np.arange(len(axis)) * 400 // len(axis) + 1
    names = {0: ("???", (0, 0, 0, 0))} | {i: (f"region{i}", (1, 0, 0, 1)) for i in range(1, 401)}
    header = (cifti2.LabelAxis(["atlas"], [names]), axis)
    image = cifti2.Cifti2Image(labels[None].astype(np.float32), header)
    nibabel.save(image, root / "atlas.dlabel.nii")
    values = 100 + np.random.default_rng(0).standard_normal((VOLUMES, len(axis)), np.float32)
    run = cifti2.Cifti2Image(values, (cifti2.SeriesAxis(0, T_R, VOLUMES), axis))
    nibabel.save(run, root / "bold.dtseries.nii")
    derivatives = begin_study(root, 400)
    for number in range(subjects):
        folder = derivatives / f"sub-{number:03d}" / "func"
        folder.mkdir(parents=True)
        name = f"sub-{number:03d}_task-rest_space-fsLR_den-91k_bold.dtseries.nii"
        os.link(root / "bold.dtseries.nii", folder / name)
    return derivatives


def main(counts: list[int], dense: bool = False) -> None:
    print("| scans | seconds | seconds per scan | peak MB | one scan as float32, MB |")
    print("|---|---|---|---|---|")
    size = (91_282 if dense else np.prod(SHAPE)) * VOLUMES * 4 / 2**20
    for count in counts:
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            scans = (write_dense_study if dense else write_study)(root, count)
            words = [str(scans), str(root / "out"), f"atlas={root}/atlas.tsv"]
            labels = root / ("atlas.dlabel.nii" if dense else "atlas.nii.gz")
            words += [f"atlas_image={labels}", f"n_timepoints={VOLUMES}", "strategy=none"]
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", MEASURED, *words], stdout=subprocess.PIPE, check=True
            )
            took = time.perf_counter() - start
        code, peak = done.stdout.decode().split()[-2:]
        assert code == "0", done.stdout.decode()
        print(f"| {count} | {took:.1f} | {took / count:.2f} | {peak} | {size:.0f} |")


if __name__ == "__main__":
    given = sys.argv[1:]
    main([int(word) for word in given if word.isdigit()] or [10, 30], "--dense" in given)
