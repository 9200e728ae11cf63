"""Small real cohorts and models, built once per session."""

from __future__ import annotations

import importlib.util
import os

# Before torch is imported, for subprocesses too: two workers of two threads on two cores spend
# their time waiting for each other (the suite took 324 s, with one thread each 195 s).
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest

from asking_helpers import place  # noqa: F401  (fixture)
from evaluation_helpers import model, planted, run  # noqa: F401  (fixtures)
from small import TINY_MODEL, make_cohort

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="session")
def cohort_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cohort of 40 people with descriptors."""
    from fmrilm.description.describe import describe

    folder = make_cohort(tmp_path_factory.mktemp("cohort"))
    describe(folder, types="fc")
    return folder


@pytest.fixture(scope="session")
def tiny_options(cohort_folder: Path) -> list[str]:
    """Return the key=value pairs of a small model on the test cohort."""
    return [*TINY_MODEL, f"data.dataset_dir=[{cohort_folder}]"]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_options: list[str]) -> dict[str, Path]:
    """Return the run folders of the three stages."""
    from fmrilm.training.build import train_stage

    root = tmp_path_factory.mktemp("runs")
    tok = train_stage("tokenizer", tiny_options, output=root / "tok")
    align = train_stage("align", tiny_options, output=root / "align", init=tok)
    inst = train_stage("instruct", tiny_options, output=root / "inst", init=align)
    return {"tokenizer": tok, "align": align, "instruct": inst}


@pytest.fixture(scope="session")
def make_study():
    """Return the function that writes a small study as fMRIPrep would leave it."""
    pytest.importorskip("nibabel", reason="needs fmrilm[imaging]")
    spec = importlib.util.spec_from_file_location("make_study", EXAMPLES / "make_study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_study
