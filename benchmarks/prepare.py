"""Time and peak memory of `fmrilm prepare` per scan of ordinary size, as the study grows.

    python benchmarks/prepare.py 10 30

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


def write_study(root: Path, subjects: int) -> Path:
    """Write the label image, its table and one run per subject; return the scans' folder."""
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = (-90, -126, -72)
    blocks = [np.arange(n) * 8 // n for n in SHAPE]
    labels = (blocks[0][:, None, None] * 8 + blocks[1][:, None]) * 8 + blocks[2] + 1
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.int16), affine), root / "atlas.nii.gz")
    lines = [f"{label}\tregion{label}\tNetwork{label % 7}" for label in range(1, 8**3 + 1)]
    (root / "atlas.tsv").write_text("\n".join(["label\tname\tnetwork", *lines]) + "\n")
    rng = np.random.default_rng(0)
    values = (1000 + 20 * rng.standard_normal((*SHAPE, VOLUMES), np.float32)).astype(np.int16)
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_zooms((3.0, 3.0, 3.0, T_R))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.openers.Opener.default_compresslevel = 1
    nibabel.save(image, root / "bold.nii.gz")
    derivatives = root / "derivatives"
    derivatives.mkdir()
    description = {"Name": "made up", "BIDSVersion": "1.9.0", "DatasetType": "derivative"}
    (derivatives / "dataset_description.json").write_text(json.dumps(description))
    for number in range(subjects):
        folder = derivatives / f"sub-{number:03d}" / "func"
        folder.mkdir(parents=True)
        stem = folder / f"sub-{number:03d}_task-rest_{SPACE}_desc-preproc_bold"
        os.link(root / "bold.nii.gz", f"{stem}.nii.gz")
        Path(f"{stem}.json").write_text(json.dumps({"RepetitionTime": T_R}))
    return derivatives


def main(counts: list[int]) -> None:
    print("| scans | seconds | seconds per scan | peak MB | one scan as float32, MB |")
    print("|---|---|---|---|---|")
    size = np.prod(SHAPE) * VOLUMES * 4 / 2**20
    for count in counts:
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            scans = write_study(root, count)
            words = [str(scans), str(root / "out"), f"atlas={root}/atlas.tsv"]
            words += [f"atlas_image={root}/atlas.nii.gz", f"n_timepoints={VOLUMES}"]
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", MEASURED, *words], stdout=subprocess.PIPE, check=True
            )
            took = time.perf_counter() - start
        code, peak = done.stdout.decode().split()[-2:]
        assert code == "0", done.stdout.decode()
        print(f"| {count} | {took:.1f} | {took / count:.2f} | {peak} | {size:.0f} |")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [10, 30])
