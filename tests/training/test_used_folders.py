"""A run folder holds one run: starting anew is said, resuming goes on with the same one."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.labels import write_table
from fmrilm.errors import InputError
from fmrilm.lineage.trained_on import changed_since, read_trained_on
from fmrilm.training import trainer
from fmrilm.training.build import summarise, train_stage
from small import TINY_MODEL, make_cohort


@pytest.fixture
def options(tmp_path):
    folder = make_cohort(tmp_path / "cohort", subjects=20)
    quiet = ["tokenizer.clip_weight=0", "train.checkpoint_every=1"]
    return [*TINY_MODEL, *quiet, f"data.dataset_dir=[{folder}]"]


def epochs(run) -> list[int]:
    lines = (run / "log.jsonl").read_text().splitlines()
    return sorted({json.loads(line)["epoch"] for line in lines})


def crash_after(epoch: int, monkeypatch) -> None:
    """Stop training in the epoch after ``epoch``, as a killed process would."""
    original, calls = trainer.validate, []

    def stop(*given):
        calls.append(1)
        if len(calls) > epoch:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(trainer, "validate", stop)


def test_a_used_folder_is_trained_into_again_only_when_told(tmp_path, options, monkeypatch):
    run = train_stage("tokenizer", [*options, "train.epochs=5"], output=tmp_path / "run")
    (run / "evaluation").mkdir()
    (run / "evaluation/metrics.json").write_text("{}")
    (run / "my_notes.txt").write_text("kept")
    with pytest.raises(InputError, match=r"holds a run \(model, checkpoints, log.*--overwrite"):
        train_stage("tokenizer", options, output=run)
    assert epochs(run) == [1, 2, 3, 4, 5]
    first = json.loads((run / "lineage.json").read_text())["run"]

    with monkeypatch.context() as patch:
        crash_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            train_stage("tokenizer", [*options, "train.epochs=3"], output=run, overwrite=True)
    assert not (run / "evaluation").exists()
    assert (run / "my_notes.txt").read_text() == "kept"
    train_stage("tokenizer", [], output=run, resume=True)
    assert epochs(run) == [1, 2, 3]
    lineage = json.loads((run / "lineage.json").read_text())
    assert lineage["run"] != first
    [progress] = (run / "checkpoints").glob("epoch-*/progress.json")
    assert json.loads(progress.read_text())["run"] == lineage["run"]


def test_results_of_the_model_before_go_when_a_run_goes_on(tmp_path, options):
    run = train_stage("tokenizer", [*options, "train.epochs=1"], output=tmp_path / "run")
    for name in ("evaluation", "explanation_sex"):
        (run / name).mkdir()
    train_stage("tokenizer", ["train.epochs=2", "train.select_best=false"], output=run, resume=True)
    assert not (run / "evaluation").exists()
    assert not (run / "explanation_sex").exists()
    assert epochs(run) == [1, 2]


def test_the_checkpoint_of_another_run_is_not_resumed_from(tmp_path, options):
    run = train_stage("tokenizer", [*options, "train.epochs=1"], output=tmp_path / "run")
    lineage = json.loads((run / "lineage.json").read_text())
    (run / "lineage.json").write_text(json.dumps({**lineage, "run": "another"}))
    with pytest.raises(InputError, match="checkpoint of another run"):
        train_stage("tokenizer", ["train.epochs=2"], output=run, resume=True)


def test_a_run_is_resumed_with_its_own_model_and_data_only(tmp_path, options):
    run = train_stage("tokenizer", [*options, "train.epochs=1"], output=tmp_path / "run")
    with pytest.raises(
        InputError, match=r"n_layer is 3, but the run to resume .* was trained with 2"
    ):
        train_stage("tokenizer", ["model.vq_model.n_layer=3"], output=run, resume=True)
    with pytest.raises(InputError, match="give one of them"):
        train_stage("tokenizer", [], output=run, resume=True, overwrite=True)
    with h5py.File(tmp_path / "cohort/data_resampled.h5", "r+") as handle:
        handle["time_series/sample_11"][0, 0] += 1
    with pytest.raises(InputError, match=r"changed since .* began \(scans\)"):
        train_stage("tokenizer", ["train.epochs=2"], output=run, resume=True)


def test_a_folder_that_holds_no_run_is_never_cleared(tmp_path, options):
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/weights").write_text("precious")
    with pytest.raises(InputError, match="holds a run"):
        train_stage("tokenizer", options, output=tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine/model/weights").read_text() == "precious"


def test_what_changed_since_training_is_named(tmp_path, options):
    run = train_stage("tokenizer", [*options, "train.epochs=1"], output=tmp_path / "run")
    folder = tmp_path / "cohort"
    assert changed_since(run, Cohort(folder)) == {}
    people = pd.read_csv(folder / "participants.tsv", sep="\t")
    permuted = np.random.default_rng(0).permutation(people["sex"])
    write_table(people.assign(sex=permuted, handedness="r"), folder / "participants.tsv")
    assert changed_since(run, Cohort(folder)) == {"labels": ["sex"]}
    seen = read_trained_on(run)
    person = seen["participant_id"].iloc[0]
    with h5py.File(folder / "data_resampled.h5", "r+") as handle:
        handle[f"time_series/sample_{Cohort(folder).store.subjects.index(person)}"][0, 0] += 1
    assert changed_since(run, Cohort(folder)) == {"scans": [f"{person} 1"], "labels": ["sex"]}
    said = summarise(Cohort(folder))
    assert "1 scans differ from what was written into the store" in said
    assert said.endswith(f"the first is {person} 1")
