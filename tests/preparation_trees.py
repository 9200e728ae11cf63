"""Small derivative trees as fMRIPrep 20.1, 23 and 25 and XCP-D name and fill them.

Written from their documentation; the series are made up. 8 regions, TR 2 s.
"""

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

NAMES = [f"{side}H_{network}_{i}" for side in "LR" for network in ("Vis", "Default")
         for i in (1, 2)]  # fmt: skip
NETWORKS = [name.split("_")[1] for name in NAMES]
AFFINE = np.diag([4.0, 4, 4, 1])
GRID = (8, 3, 3)
FMRIPREP = {  # version -> name of the run, of the images, of the confounds
    "20.1.3": ("task-rest_run-1", "space-MNI152NLin2009cAsym", "desc-confounds_regressors"),
    "23.2.3": ("task-rest_run-01", "space-MNI152NLin6Asym_res-2", "desc-confounds_timeseries"),
    "25.1.0": ("task-rest_part-mag", "space-MNI152NLin6Asym_res-2", "desc-confounds_timeseries"),
}


def draw_series(seed: int, volumes: int) -> np.ndarray:
    """Return slow, independent series (8, volumes) around 1000."""
    noise = np.random.default_rng(seed).standard_normal((len(NAMES), volumes + 5))
    return 1000 + 5 * np.apply_along_axis(np.convolve, 1, noise, np.hanning(6), "valid")


def write_atlas(folder: Path) -> list[str]:
    """Write the parcellation as XCP-D does, and its image; return the settings that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"index": range(1, 9), "label": NAMES, "network_label": NETWORKS})
    table.to_csv(folder / "atlas.tsv", sep="\t", index=False)
    labels = np.zeros(GRID, np.int16)
    labels += np.arange(1, 9, dtype=np.int16)[:, None, None]
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), folder / "tpl-MNI152NLin6Asym.nii.gz")
    return [f"atlas={folder}/atlas.tsv", f"atlas_image={folder}/tpl-MNI152NLin6Asym.nii.gz"]


def write_description(root: Path, name: str, version: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    text = {"Name": name, "BIDSVersion": "1.9.0", "DatasetType": "derivative",
            "GeneratedBy": [{"Name": name, "Version": version}]}  # fmt: skip
    (root / "dataset_description.json").write_text(json.dumps(text))


def write_image(stem: Path, series: np.ndarray, t_r: float | None = 2.0) -> None:
    """Write one 4-D image with its sidecar (without one if ``t_r`` is None)."""
    data = np.broadcast_to(series[:, None, None, :], (*GRID, series.shape[1])).astype(np.float32)
    image = nibabel.Nifti1Image(data, AFFINE)
    image.header.set_zooms((4, 4, 4, 2.0))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, f"{stem}.nii.gz")
    if t_r is not None:
        Path(f"{stem}.json").write_text(json.dumps({"RepetitionTime": t_r, "SkullStripped": False}))


def draw_confounds(volumes: int, dummies: int, moved: list[int], seed: int) -> pd.DataFrame:
    """Return a confounds table: 36 parameters, drift, CompCor, FD, DVARS, outlier columns."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(index=range(volumes))
    names = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    for name in ("csf", "white_matter", "global_signal", *names):
        table[name] = rng.standard_normal(volumes)
        table[f"{name}_derivative1"] = table[name].diff()
        table[f"{name}_power2"] = table[name] ** 2
        table[f"{name}_derivative1_power2"] = table[f"{name}_derivative1"] ** 2
    table["framewise_displacement"] = rng.uniform(0.05, 0.2, volumes)
    table["std_dvars"] = rng.uniform(0.9, 1.1, volumes)
    table.loc[moved, "framewise_displacement"] = 1.5
    table.loc[0, ["framewise_displacement", "std_dvars"]] = np.nan
    for number in range(2):
        table[f"cosine{number:02d}"] = np.cos(np.pi * (number + 1) * np.linspace(0, 1, volumes))
        table[f"a_comp_cor_{number:02d}"] = rng.standard_normal(volumes)
    for number in range(dummies):
        table[f"non_steady_state_outlier{number:02d}"] = np.eye(volumes, dtype=int)[number]
    for number, volume in enumerate(moved):
        table[f"motion_outlier{number:02d}"] = np.eye(volumes, dtype=int)[volume]
    return table


def write_fmriprep(root: Path, version: str, subjects: int = 10, volumes: int = 64) -> None:
    """Write one run per subject, four dummy scans, with what lies beside it."""
    run, space, confounds = FMRIPREP[version]
    write_description(root, "fMRIPrep", version)
    for number in range(1, subjects + 1):
        folder = root / f"sub-{number:02d}" / "func"
        folder.mkdir(parents=True)
        stem = f"sub-{number:02d}_{run}"
        series = draw_series(number, volumes)
        series[:, :4] += 400 * np.exp(-np.arange(4) / 3)
        write_image(folder / f"{stem}_{space}_desc-preproc_bold", series)
        mask = nibabel.Nifti1Image(np.ones(GRID, np.uint8), AFFINE)
        nibabel.save(mask, folder / f"{stem}_{space}_desc-brain_mask.nii.gz")
        nibabel.save(mask, folder / f"{stem}_{space}_boldref.nii.gz")
        moved = [20, 40] if number % 2 else []
        table = draw_confounds(volumes, 4, moved, number)
        own = stem.replace("_part-mag", "") if number % 2 else stem  # both occur
        table.to_csv(folder / f"{own}_{confounds}.tsv", sep="\t", index=False, na_rep="n/a")
        metadata = {f"a_comp_cor_{i:02d}": {"Mask": "combined", "Method": "aCompCor"}
                    for i in range(2)}  # fmt: skip
        (folder / f"{own}_{confounds}.json").write_text(json.dumps(metadata))
        if version != "20.1.3":
            write_image(folder / f"{stem}_space-T1w_desc-preproc_bold", series[:, :3])
        if version == "25.1.0":
            for other in ("part-phase", "echo-1_part-mag"):
                name = stem.replace("part-mag", other)
                write_image(folder / f"{name}_{space}_desc-preproc_bold", series[:, :3])


def write_xcpd(root: Path, mode: str, subjects: int = 10, volumes: int = 64) -> None:
    """Write the tables of one run per subject, two parcellations; volumes 10, 11 and 30 moved.

    ``linc``: they are left out of the series; ``abcd``: they are interpolated. The second region
    has no coverage.
    """
    write_description(root, "XCP-D", "0.10.7")
    for number in range(1, subjects + 1):
        folder = root / f"sub-{number:02d}" / "func"
        folder.mkdir(parents=True)
        stem = f"sub-{number:02d}_task-rest_run-1"
        outliers = np.zeros(volumes, int)
        outliers[[10, 11, 30]] = 1
        series = draw_series(number, volumes) - 1000
        series[1] = np.nan
        if mode == "linc":
            series = series[:, outliers == 0]
        for atlas in ("4S456Parcels", "Tian"):
            name = f"{stem}_space-MNI152NLin6Asym_seg-{atlas}_stat-mean_timeseries"
            table = pd.DataFrame(series.T, columns=NAMES)
            table.to_csv(folder / f"{name}.tsv", sep="\t", index=False, na_rep="n/a")
            (folder / f"{name}.json").write_text(json.dumps({"RepetitionTime": 2.0}))
        motion = pd.DataFrame({"framewise_displacement": 0.1 + outliers, "rmsd": 0.1})
        motion.to_csv(folder / f"{stem}_motion.tsv", sep="\t", index=False)
        marked = pd.DataFrame({"framewise_displacement": outliers, "exact_50": 1 - outliers})
        marked.to_csv(folder / f"{stem}_outliers.tsv", sep="\t", index=False)
