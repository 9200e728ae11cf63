"""Nothing that was computed from other scans, labels or weights is taken for the present ones."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from evaluation_helpers import N_ROIS, N_TIMES, ScanReader, make_cohort, make_run
from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.labels import write_table
from fmrilm.errors import InputError
from fmrilm.evaluation.baselines.baselines import baseline_answers
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.questions import select
from fmrilm.evaluation.readings import read_readings
from fmrilm.evaluation.resume import log_path
from fmrilm.tasks import TASKS
from small import edited_store


def _fast(run, **options):
    given = {"samples": 0, "free_text": False, "scrutiny": False}
    return evaluate([str(run)], **{**given, **options})


@pytest.fixture
def cohort(tmp_path):
    return make_cohort(tmp_path / "toy", n_subjects=40)


def replace_scans(folder) -> None:
    """Put noise in place of all scans but the first."""
    rng = np.random.default_rng(5)
    with edited_store(folder) as handle:
        for index in range(1, len(handle["time_series"])):
            handle[f"time_series/sample_{index}"][...] = rng.normal(size=(N_ROIS, N_TIMES))


def auc(cohort) -> float:
    question = select(cohort, TASKS["sex"], "test")
    [(scores, _)] = baseline_answers(question, N_TIMES, "fc")["fc"].repetitions()
    return float(roc_auc_score(question.labels, scores[:, 1]))


def test_baselines_are_fitted_anew_when_all_scans_but_the_first_are_replaced(cohort):
    assert auc(cohort) > 0.95
    kept = sorted((cohort.folder / "baselines").iterdir())
    replace_scans(cohort.folder)
    assert auc(Cohort(cohort.folder)) < 0.9
    assert len(list((cohort.folder / "baselines").iterdir())) == len(kept) + 1


@pytest.mark.parametrize("column", ["sex", "age"])
def test_baselines_are_fitted_anew_when_labels_or_covariates_change(cohort, column):
    question = select(cohort, TASKS["sex"], "test")
    baseline_answers(question, N_TIMES, "fc")
    people = pd.read_csv(cohort.folder / "participants.tsv", sep="\t")
    people[column] = np.roll(people[column], 7)
    write_table(people, cohort.folder / "participants.tsv")
    baseline_answers(select(Cohort(cohort.folder), TASKS["sex"], "test"), N_TIMES, "fc")
    assert len(list((cohort.folder / "baselines").iterdir())) == 2


def test_unfinished_answers_are_of_these_weights_and_these_scans(cohort, tmp_path):
    weights = tmp_path / "model"
    weights.mkdir()
    (weights / "a.safetensors").write_bytes(b"weights")
    before = log_path(tmp_path, weights, cohort, N_TIMES, "clip")
    shutil.copytree(weights, tmp_path / "copy")  # other times, the same weights
    assert log_path(tmp_path, tmp_path / "copy", cohort, N_TIMES, "clip") == before
    assert log_path(tmp_path, weights, cohort, N_TIMES, "pad") != before
    (weights / "a.safetensors").write_bytes(b"WEIGHTS")
    assert log_path(tmp_path, weights, cohort, N_TIMES, "clip") != before
    replace_scans(cohort.folder)
    again = log_path(tmp_path, tmp_path / "copy", Cohort(cohort.folder), N_TIMES, "clip")
    assert again != before


def test_answers_of_old_scans_are_not_taken_when_an_evaluation_goes_on(
    cohort, tmp_path, model, monkeypatch
):
    run = make_run(tmp_path / "run", make_cohort(tmp_path / "other", seed=3))
    score = ScanReader.score

    def stumble(reader, *given):
        if reader.calls >= 8:
            raise KeyboardInterrupt
        return score(reader, *given)

    other = {"datasets": str(cohort.folder), "batch_size": 4}
    lineage = json.loads((run / "lineage.json").read_text())
    lineage["cohorts"] = {"elsewhere": lineage["cohorts"]["toy"]}
    (run / "lineage.json").write_text(json.dumps(lineage))
    with monkeypatch.context() as patch:
        patch.setattr(ScanReader, "score", stumble)
        with pytest.raises(KeyboardInterrupt):
            _fast(run, **other)
    replace_scans(cohort.folder)
    _fast(run, **other, output=str(tmp_path / "fresh"))
    _fast(run, **other)
    fresh, found = (
        pd.read_csv(folder / "predictions.csv")
        for folder in (tmp_path / "fresh", run / "evaluation")
    )
    pd.testing.assert_frame_equal(fresh, found)
    assert not (run / "evaluation/unfinished").exists()


def test_a_cohort_of_other_scans_is_refused_and_other_labels_are_said(
    cohort, tmp_path, model, capsys
):
    run = make_run(tmp_path / "run", cohort)
    people = pd.read_csv(cohort.folder / "participants.tsv", sep="\t")
    people["sex"] = np.random.default_rng(0).permutation(people["sex"])
    write_table(people, cohort.folder / "participants.tsv")
    _fast(run)
    assert "note: labels (sex) of toy changed since" in capsys.readouterr().err
    with edited_store(cohort.folder) as handle:
        handle["time_series/sample_5"][0, 0] += 1
    with pytest.raises(InputError, match=r"scans changed"):
        _fast(run)


def test_readings_are_counted_with_the_cohort_whichever_run_reads(cohort, tmp_path, model, capsys):
    first, second = (make_run(tmp_path / name, cohort) for name in ("first", "second"))
    _fast(first, split="val")
    assert not (cohort.folder / "test_readings.jsonl").exists()
    [result] = _fast(first)
    assert result.readings["mark"] == "untouched"
    assert "were read 0 times before" in capsys.readouterr().out
    [result] = _fast(second)
    assert result.readings["mark"] == "looked at (once)"
    assert "were read 1 time before" in capsys.readouterr().out
    [result] = _fast(first)
    assert result.readings["mark"] == "untouched"  # it had read before the other did
    assert "were read 2 times before" in capsys.readouterr().out
    [result] = _fast(second, tasks="age")
    assert result.readings["mark"] == "untouched"  # of this question
    assert result.readings["any_task_before"] == 3
    [metrics] = json.loads((second / "evaluation/metrics.json").read_text())["results"]
    assert metrics["readings"] == result.readings
    assert "test people untouched" in (second / "evaluation/summary.md").read_text()
    lines = (cohort.folder / "test_readings.jsonl").read_text().splitlines()
    assert [json.loads(line)["tasks"] for line in lines] == [["sex"], ["sex"], ["sex"], ["age"]]
    assert set(json.loads(lines[0])) == {
        "time", "split", "content", "runs", "models", "tasks"
    }  # fmt: skip


def test_seeds_that_are_evaluated_together_read_once(cohort, tmp_path, model):
    runs = [make_run(tmp_path / f"seed{i}", cohort, f"train.seed={i}") for i in range(2)]
    options = {"samples": 0, "free_text": False, "scrutiny": False}
    results = evaluate([str(run) for run in runs], **options)
    assert [one.readings["mark"] for one in results] == ["untouched"] * 2
    assert len((cohort.folder / "test_readings.jsonl").read_text().splitlines()) == 1


def test_other_people_or_other_scans_are_counted_apart(cohort, tmp_path, model):
    _fast(make_run(tmp_path / "run", cohort))
    assert len(read_readings(Cohort(cohort.folder)).entries) == 1
    splits = pd.read_csv(cohort.folder / "splits.tsv", sep="\t")
    swapped = splits["split"].replace({"val": "test", "test": "val"})  # the next fold
    write_table(splits.assign(split=swapped), cohort.folder / "splits.tsv")
    assert read_readings(Cohort(cohort.folder)).entries == []
    write_table(splits, cohort.folder / "splits.tsv")
    assert len(read_readings(Cohort(cohort.folder)).entries) == 1
    replace_scans(cohort.folder)
    assert read_readings(Cohort(cohort.folder)).entries == []


def test_readings_of_a_read_only_cohort_are_kept_with_the_run(
    cohort, tmp_path, model, capsys, monkeypatch
):
    run = make_run(tmp_path / "run", cohort)
    monkeypatch.setattr(os, "access", lambda *given: False)
    _fast(run)
    assert "cannot be written to: the reading is noted in test_readings" in capsys.readouterr().out
    _fast(run)
    assert "were read 1 time before" in capsys.readouterr().out
    assert not (cohort.folder / "test_readings.jsonl").exists()
