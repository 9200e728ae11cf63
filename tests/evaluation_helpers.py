"""A tiny cohort with a planted effect, and a model that answers from the scan, untrained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fmrilm.cohort.cohort import Cohort, write_info
from fmrilm.cohort.store import write_store
from fmrilm.config.schema import Config, load_config, save_config
from fmrilm.evaluation.runs import Run
from fmrilm.lineage.trained_on import about_data, write_trained_on
from fmrilm.studies.known import CohortInfo

N_ROIS, N_TIMES = 6, 48


def make_cohort(
    folder: Path, effect: float = 3.0, n_subjects: int = 60, seed: int = 0, sessions: int = 2
) -> Cohort:
    """Regions 0 and 1 are coupled in women, 2 and 3 by age; two sessions per person, two sites."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    sex = rng.permutation(np.resize(["M", "F"], n_subjects))
    site = rng.permutation(np.resize(["a", "b"], n_subjects))
    age = np.random.default_rng(seed + 1000).integers(20, 80, n_subjects)
    names = [f"s{index:03d}" for index in range(n_subjects)]

    def series(index: int) -> np.ndarray:
        values = rng.normal(size=(N_ROIS, N_TIMES))
        values[1] += effect * (sex[index] == "F") * values[0]
        values[3] += 0.5 * effect * (age[index] - 50) / 17 * values[2]
        return values + 0.3

    samples = [(names[i], str(s), series(i)) for i in range(n_subjects) for s in range(sessions)]
    write_store(
        folder / "data_resampled.h5",
        samples,
        t_r=2.0,
        atlas="toy",
        roi_ids=[str(i) for i in range(N_ROIS)],
        source="drawn for a test",
    )
    table = pd.DataFrame({"participant_id": names, "sex": sex, "site": site})
    table["age"] = age
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    info = CohortInfo("toy", "A toy.", targets=["sex"], norm="standard_roi", synthetic=True)
    write_info(folder, info)
    return Cohort(folder)


class ScanReader:
    """Answers from the coupling of regions 0 and 1 (a number: 2 and 3), or from the prompt."""

    def __init__(self, reads: str = "scan", text: str = "") -> None:
        self.reads, self.text, self.calls, self.outputs = reads, text, 0, 2

    def score(self, fmri, roi_mask, prompts, candidates):
        self.calls += len(prompts)
        if self.reads == "text":
            value = torch.tensor([4.0 if "site: a" in prompt else -4.0 for prompt in prompts])
        elif fmri is None:
            value = torch.zeros(len(prompts))
        else:
            value = 8 * ((fmri[:, 0] * fmri[:, 1]).mean(dim=1) - 0.5)
        scores = torch.zeros(len(prompts), len(candidates))
        scores[:, 1] = value
        return scores

    def expect(self, fmri, roi_mask, prompts, values):
        self.calls += len(prompts)
        middle = (values[0] + values[-1]) / 2
        if fmri is None:
            return torch.full((len(prompts),), middle)
        return middle + 12 * (fmri[:, 2] * fmri[:, 3]).mean(dim=1)

    def classify(self, fmri, roi_mask, prompts):
        if self.outputs == 1:
            return 2 * self.expect(fmri, roi_mask, prompts, (0.0, 100.0))[:, None]
        return self.score(fmri, roi_mask, prompts, ["Male", "Female", "", ""]).log_softmax(-1)

    def ask(self, fmri, roi_mask, questions):
        return [self.score(fmri, roi_mask, *question) for question in questions]

    def generate(self, fmri, roi_mask, prompts, max_new_tokens=8):
        if self.text:
            return [self.text] * len(prompts)
        chosen = self.score(fmri, roi_mask, prompts, ["Male", "Female"]).argmax(dim=1)
        return [["Male.", "Female."][index] for index in chosen]


class SummaryReader(ScanReader):
    """Answers from the summary behind the tokens (``part="summary"``), or from the tokens."""

    class Summary:
        of_connectivity = True

        def scores(self, fmri, roi_mask):
            return torch.stack([(fmri[:, 0] * fmri[:, 1]).mean(1), fmri[:, 4].mean(1)], 1)

    def __init__(self, part: str = "summary") -> None:
        super().__init__()
        self.part, self.summary = part, self.Summary()

    def ask(self, fmri, roi_mask, questions, summary_scan=None):
        shown = (fmri, roi_mask)
        if self.part == "summary" and summary_scan is not None:
            shown = summary_scan
        return [self.score(*shown, *question) for question in questions]


def make_run(folder: Path, cohort: Cohort, *overrides: str, stage: str = "instruct") -> Path:
    """Write what a finished run holds, apart from the weights."""
    (folder / "model").mkdir(parents=True)
    config: Config = load_config(
        overrides=[
            f"model.vq_model.num_rois={N_ROIS}",
            f"model.vq_model.num_timestamp={N_TIMES}",
            f"model.vq_model.patch_size={N_TIMES}",
            *overrides,
        ]
    )
    save_config(config, folder / "config.yaml")
    lineage = {"stage": stage, "parent": None, "cohorts": {cohort.name: about_data(cohort)}}
    (folder / "lineage.json").write_text(json.dumps(lineage))
    write_trained_on(folder, [cohort])
    return folder


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """A cohort in which sex is written into the connectivity."""
    return make_cohort(tmp_path_factory.mktemp("planted") / "toy")


@pytest.fixture
def model(monkeypatch):
    """What every run's model is in these tests."""
    reader = ScanReader()
    monkeypatch.setattr(Run, "load_model", lambda run, *_: reader)
    return reader


@pytest.fixture
def run(tmp_path, planted, model):
    """A finished run on the planted cohort."""
    return make_run(tmp_path / "run", planted)
