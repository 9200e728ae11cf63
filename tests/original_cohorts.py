"""Cohorts in the original's layout, made here: stores, scaling, descriptors, labels and texts."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd

REGIONS, FRAMES, PEOPLE = 450, 170, 24
NETWORKS = 9
# cohort: label columns beside age and sex, with their number of classes
LABELS = {
    "UKB": {"fluidintel_enc": 3},
    "ABCD": {},
    "HCP": {},
    "MyDataset": {"target1": 2, "target2": 2},
}
FAMILIES = {
    "fc": "coupling of the visual with the limbic network",
    "gradient": "the first gradient of the control network",
    "graph": "modularity",
    "ica": "power of the motor component",
}


def make_cohorts(root: Path) -> None:
    """Write every cohort to ``root/<cohort>/fmri/TianS3``."""
    for number, name in enumerate(LABELS):
        _make(root / name / "fmri/TianS3", LABELS[name], number)


def _make(folder: Path, labels: dict[str, int], number: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(number)
    sex = rng.permutation(np.arange(PEOPLE) % 2)
    ids = {
        "subject_id": np.arange(PEOPLE) * 3 + 1000 * (number + 1),
        "session_id": ["ses_01"] * PEOPLE,
    }
    means = _write_store(folder / "data_resampled.h5", ids, sex, rng)
    _write_scaling(folder / "normalization_params.npz", means)
    (folder / "descriptors_rewritten").mkdir()
    for family, measure in FAMILIES.items():
        z = rng.normal(sex, 1.0)
        degree = np.select([z > 1, z < -1], ["high", "low"], "typical")
        sentences = [f"{measure} is {d} (z = {v:.2f})." for d, v in zip(degree, z, strict=True)]
        table = pd.DataFrame({**ids, "z": z.round(3), "summary": sentences})
        table.to_csv(folder / f"descriptors_rewritten/{family}_descriptors.csv", index=False)
    people = pd.DataFrame({**ids, "age": rng.integers(45, 80, PEOPLE) * 1.0, "sex": sex * 1.0})
    for column, classes in labels.items():
        people[column] = np.arange(PEOPLE) % classes
    words = people["sex"].map({0.0: "Female", 1.0: "Male"})
    people["text_description"] = (
        "Subject Information:\n- Demographics: " + words + " subject, "
        + people["age"].astype(int).astype(str) + "-year-old"
    )  # fmt: skip
    people["text_description_refined"] = people["text_description"]
    people.to_csv(folder / "metadata_with_text_medical_gpt.csv", index=False)


def _write_store(path: Path, ids: dict, sex: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Write raw intensities in which two networks go together in men; return their means."""
    baseline = rng.uniform(8000, 16000, REGIONS)
    means = []
    text = h5py.string_dtype("utf-8")
    with h5py.File(path, "w") as file:
        series = file.create_group("time_series")
        for i in range(PEOPLE):
            slow = np.cumsum(rng.standard_normal((NETWORKS, FRAMES)), axis=1)
            slow = (slow - slow.mean(1, keepdims=True)) / slow.std(1, keepdims=True)
            if sex[i]:
                slow[1] = slow[0]
            signal = 0.6 * np.repeat(slow, REGIONS // NETWORKS, axis=0)
            signal += rng.standard_normal((REGIONS, FRAMES))
            scan = (baseline[:, None] * (1 + 0.01 * signal)).astype("float32")
            series.create_dataset(f"sample_{i}", data=scan, compression="gzip")
            means.append(scan.mean(1))
        metadata = file.create_group("metadata")
        for name, values in (("subjects", ids["subject_id"]), ("sessions", ids["session_id"])):
            words = [str(value) for value in values]
            metadata.create_dataset(name, data=words, dtype=text, maxshape=(None,))
        metadata.create_dataset("shapes", data=np.full((PEOPLE, 2), (REGIONS, FRAMES), "int32"))
    return np.stack(means)


def _write_scaling(path: Path, means: np.ndarray) -> None:
    """Write the statistics of all people's region means, over regions together and one by one."""
    low, high = np.percentile(means, [25, 75])
    low_roi, high_roi = np.percentile(means, [25, 75], axis=0)
    np.savez(
        path,
        medians=np.median(means), iqrs=high - low, mean=means.mean(), std=means.std(),
        medians_roi=np.median(means, axis=0), iqrs_roi=high_roi - low_roi,
        mean_roi=means.mean(0), std_roi=means.std(0),
    )  # fmt: skip
