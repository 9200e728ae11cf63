"""A small cohort with a planted effect, and the options of a model that fits it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROIS, POINTS = 12, 20


def make_cohort(
    folder: Path,
    subjects: int = 40,
    effect: float = 1.5,
    rois: int = ROIS,
    points: int = POINTS,
    **info: object,
) -> Path:
    """Write a cohort whose sex shows in the amplitude of the first half of the regions."""
    from fmrilm.cohort.cohort import write_info
    from fmrilm.cohort.store import write_store
    from fmrilm.studies.known import CohortInfo

    rng = np.random.default_rng(0)
    ids = [f"sub-{i:03d}" for i in range(subjects)]
    sex = np.array(["M", "F"])[np.arange(subjects) % 2]
    folder.mkdir(parents=True, exist_ok=True)

    def scans():
        for subject, one in zip(ids, sex, strict=True):
            series = rng.standard_normal((rois, points))
            series[: rois // 2] += effect * (one == "F")
            yield subject, "1", series

    write_store(
        folder / "data_resampled.h5",
        scans(),
        t_r=2.0,
        atlas="test",
        roi_ids=[str(i) for i in range(rois)],
        source="SYNTHETIC: made for a test",
    )
    table = pd.DataFrame(
        {
            "participant_id": ids,
            "sex": sex,
            "age": rng.integers(40, 70, subjects),
            "site": np.arange(subjects) % 3,
        }
    )
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    values = {"name": "test", "description": "A made-up cohort.", "targets": ["sex"]}
    values |= {"norm": "none", "synthetic": True} | info
    write_info(folder, CohortInfo(**values))  # type: ignore[arg-type]
    networks = ["Vis", "Default", "SomMot"]
    pd.DataFrame(
        {
            "label": range(rois),
            "name": [f"region {i}" for i in range(rois)],
            "network": [networks[i % 3] for i in range(rois)],
        }
    ).to_csv(folder / "atlas.tsv", sep="\t", index=False)
    return folder


@contextmanager
def edited_store(folder: Path) -> Iterator[Any]:
    """Give the open store of a cohort to change; readers that have it open keep the old one."""
    import h5py

    path, copy = folder / "data_resampled.h5", folder / "edited.h5"
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as handle:
        yield handle
    os.replace(copy, path)


TINY_MODEL = [
    f"model.vq_model.num_rois={ROIS}",
    f"model.vq_model.num_timestamp={POINTS}",
    "model.vq_model.patch_size=10",
    "model.vq_model.enc_cls=vit_tiny",
    "model.vq_model.n_embd=16",
    "model.vq_model.n_layer=2",
    "model.vq_model.n_head=2",
    "model.vq_model.codebook_size=32",
    "model.vq_model.code_dim=8",
    "model.lm.base_model=tiny",
    "model.lm.tiny_width=32",
    "model.lm.tiny_depth=2",
    "model.lm.tiny_vocab=400",
    "tokenizer.clip_dim=16",
    "align.max_text_length=40",
    "train.batch_size=8",
    "train.lr=3e-3",
    "train.epochs=2",
]
