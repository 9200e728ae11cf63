"""What is damaged: a cohort, a run of every stage, scans in every format, a study, all tiny."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd
import scipy.io
from nibabel import cifti2

from small import TINY_MODEL, make_cohort

REGIONS, VOLUMES = 8, 40
NAMES = [f"region{i}" for i in range(1, REGIONS + 1)]
CANARY = "canary"  # a file that only code out of an input would write


@dataclass(frozen=True)
class World:
    """Folders of one fuzzing session: ``base/a/b/world`` is damaged, ``pristine`` is kept."""

    base: Path

    @property
    def root(self) -> Path:
        """The folder that is damaged and then restored."""
        return self.base / "a" / "b" / "world"

    @property
    def canary(self) -> Path:
        """The file that must never appear."""
        return self.base / CANARY

    @contextmanager
    def restored(self) -> Iterator[Path]:
        """Give the undamaged folder."""
        shutil.rmtree(self.base / "a", ignore_errors=True)
        self.canary.unlink(missing_ok=True)
        shutil.copytree(self.base / "pristine", self.root)
        yield self.root

    def strays(self) -> list[str]:
        """Return what was written outside the folder."""
        inside = (self.base / "pristine", self.root)
        above = {self.base / "a", self.base / "a" / "b"}
        return [
            str(path.relative_to(self.base))
            for path in self.base.rglob("*")
            if path not in above and not any(path == p or p in path.parents for p in inside)
        ]


def build(base: Path) -> World:
    """Make everything once; runs are trained at the place where they are read."""
    from fmrilm.description.describe import describe
    from fmrilm.training.build import train_stage

    world = World(base.resolve())
    root = world.root
    cohort = make_cohort(root / "cohort", subjects=20, norm="standard_global")
    people = pd.read_csv(cohort / "participants.tsv", sep="\t")
    keys = {"participant_id": people["participant_id"], "session_id": "1"}
    samples = pd.DataFrame({**keys, "score": np.arange(20.0)})
    samples.to_csv(cohort / "samples.tsv", sep="\t", index=False)
    describe(cohort, types="fc", jobs=1, gallery=0)
    options = [*TINY_MODEL, f"data.dataset_dir=[{cohort}]", "train.epochs=1"]
    runs = root / "runs"
    token = train_stage("tokenizer", options, output=runs / "tok")
    align = train_stage("align", options, output=runs / "align", init=token)
    train_stage("instruct", options, output=runs / "inst", init=align)
    from fmrilm.evaluation.evaluate import evaluate

    evaluate([str(runs / "inst")], baselines="none", scrutiny=False)
    evaluate([str(runs / "align")], baselines="none", scrutiny=False, tasks="describe")
    write_scans(root / "scans")
    write_study(root / "study")
    (root / "texts").mkdir()
    (root / "texts/one.txt").write_text("A short text about brains.\n\nAnother paragraph.\n")
    (root / "options.yaml").write_text("train:\n  epochs: 1\n  lr: 0.001\n")
    write_original(root / "original.pt")
    shutil.copytree(root, world.base / "pristine", dirs_exist_ok=True)
    return world


def draw(seed: int) -> np.ndarray:
    """Return series of shape (regions, volumes) around 1000."""
    noise = np.random.default_rng(seed).standard_normal((REGIONS, VOLUMES + 5))
    return 1000 + 5 * np.apply_along_axis(np.convolve, 1, noise, np.hanning(6), "valid")


def write_atlas(path: Path) -> None:
    """Write the table of the regions."""
    table = pd.DataFrame({"label": range(1, REGIONS + 1), "name": NAMES})
    table["network"] = ["Vis", "Default"] * (REGIONS // 2)
    table.to_csv(path, sep="\t", index=False)


def write_scans(folder: Path) -> None:
    """Write one scan in every format that is read, with the table and images of the regions."""
    folder.mkdir()
    series = draw(0).astype(np.float32)
    write_atlas(folder / "atlas.tsv")
    table = pd.DataFrame(series.T, columns=NAMES)
    table.to_csv(folder / "scan.tsv", sep="\t", index=False)
    table.to_csv(folder / "scan.csv", index=False)
    np.savetxt(folder / "scan.txt", series.T)
    np.save(folder / "scan.npy", series.T)
    scipy.io.savemat(folder / "scan.mat", {"series": series.T})
    with h5py.File(folder / "scan.h5", "w") as handle:
        handle["time_series/sample_0"] = series
        handle["metadata/subjects"] = ["a"]
        handle["metadata/sessions"] = ["1"]
        handle["metadata/t_r"] = 2.0
    write_image(folder / "scan.nii.gz", series)
    labels = np.zeros((REGIONS, 3, 3), np.int16) + np.arange(1, REGIONS + 1)[:, None, None]
    nibabel.save(
        nibabel.Nifti1Image(labels.astype(np.int16), np.diag([4.0, 4, 4, 1])),
        folder / "labels.nii.gz",
    )
    (folder / "scan.json").write_text(json.dumps({"RepetitionTime": 2.0}))
    write_cifti(folder, series)


def write_image(path: Path, series: np.ndarray) -> None:
    """Write a 4-D image in which a region is a slab."""
    data = np.broadcast_to(series[:, None, None, :], (REGIONS, 3, 3, series.shape[1]))
    image = nibabel.Nifti1Image(data.astype(np.float32), np.diag([4.0, 4, 4, 1]))
    image.header.set_zooms((4, 4, 4, 2.0))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)


def write_cifti(folder: Path, series: np.ndarray) -> None:
    """Write dense series, their labels, and parcellated series."""
    places = cifti2.BrainModelAxis.from_surface(np.arange(16), 16, "CortexLeft")
    time = cifti2.SeriesAxis(0, 2, series.shape[1])
    dense = np.repeat(series, 2, axis=0).T
    cifti2.Cifti2Image(dense, (time, places)).to_filename(folder / "scan.dtseries.nii")
    names = {0: ("???", (0, 0, 0, 0))}
    names |= {i + 1: (name, (1, 0, 0, 1)) for i, name in enumerate(NAMES)}
    keys = np.repeat(np.arange(1, REGIONS + 1), 2)[None].astype(np.float32)
    label = cifti2.LabelAxis(["atlas"], [names])
    cifti2.Cifti2Image(keys, (label, places)).to_filename(folder / "labels.dlabel.nii")
    parcels = cifti2.ParcelsAxis.from_brain_models(
        [(name, places[2 * i : 2 * i + 2]) for i, name in enumerate(NAMES)]
    )
    cifti2.Cifti2Image(series.T, (time, parcels)).to_filename(folder / "scan.ptseries.nii")


def write_study(root: Path) -> None:
    """Write a study as fMRIPrep leaves it: two people, confounds, masks, sidecars."""
    for number in range(1, 13):
        folder = root / f"sub-{number:02d}" / "func"
        folder.mkdir(parents=True)
        stem = f"sub-{number:02d}_task-rest"
        space = f"{stem}_space-MNI152NLin6Asym"
        write_image(folder / f"{space}_desc-preproc_bold.nii.gz", draw(number))
        mask = nibabel.Nifti1Image(np.ones((REGIONS, 3, 3), np.uint8), np.diag([4.0, 4, 4, 1]))
        nibabel.save(mask, folder / f"{space}_desc-brain_mask.nii.gz")
        sidecar = folder / f"{space}_desc-preproc_bold.json"
        sidecar.write_text(json.dumps({"RepetitionTime": 2.0, "SkullStripped": False}))
        rng = np.random.default_rng(number)
        table = pd.DataFrame(index=range(VOLUMES))
        axes = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
        for name in ("csf", "white_matter", "global_signal", *axes):
            table[name] = rng.standard_normal(VOLUMES)
            table[f"{name}_derivative1"] = table[name].diff()
            table[f"{name}_power2"] = table[name] ** 2
            table[f"{name}_derivative1_power2"] = table[f"{name}_derivative1"] ** 2
        table["framewise_displacement"] = rng.uniform(0.05, 0.2, VOLUMES)
        table["std_dvars"] = rng.uniform(0.9, 1.1, VOLUMES)
        table["cosine00"] = np.cos(np.pi * np.linspace(0, 1, VOLUMES))
        confounds = folder / f"{stem}_desc-confounds_timeseries.tsv"
        table.to_csv(confounds, sep="\t", index=False, na_rep="n/a")
        confounds.with_suffix(".json").write_text("{}")
    text = {"Name": "fMRIPrep", "BIDSVersion": "1.9.0", "DatasetType": "derivative"}
    (root / "dataset_description.json").write_text(json.dumps(text))
    people = pd.DataFrame({"participant_id": [f"sub-{i:02d}" for i in range(1, 13)]})
    people["sex"] = ["M", "F"] * 6
    people["age"] = range(30, 42)
    people.to_csv(root / "participants.tsv", sep="\t", index=False)


def write_original(path: Path) -> None:
    """Write a checkpoint as the original saves it, of no known layout."""
    import torch

    torch.save({"model": {"weight": torch.zeros(2, 2)}, "epoch": 1}, path)
