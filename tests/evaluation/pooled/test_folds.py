import json

import numpy as np
import pandas as pd
import pytest

from evaluation_helpers import ScanReader, make_cohort, make_run
from fmrilm.cohort.cohort import Cohort
from fmrilm.datasets.folds import make_folds
from fmrilm.errors import InputError
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.options import EvaluationOptions
from fmrilm.evaluation.pooled.folds import summarise_folds, summarise_split
from fmrilm.evaluation.pooled.seeds import recipe
from fmrilm.evaluation.results import read_results
from fmrilm.evaluation.runs import Run, open_run

OPTIONS = {"samples": 0, "scrutiny": False}
OPTIONS |= {"free_text": False, "baselines": "none"}


class Leaning(ScanReader):
    """Reads the scan, and leans towards one answer, another way in each fold."""

    def __init__(self, lean):
        super().__init__()
        self.lean = lean

    def score(self, fmri, roi_mask, prompts, candidates):
        scores = super().score(fmri, roi_mask, prompts, candidates)
        scores[:, 1] += self.lean
        return scores

    def expect(self, fmri, roi_mask, prompts, values):
        return super().expect(fmri, roi_mask, prompts, values) + self.lean


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Weak effects, so that scores stay below 1."""
    made = make_cohort(tmp_path_factory.mktemp("folds") / "toy", effect=0.25, n_subjects=36)
    make_folds(made.folder, count=3)
    return made


@pytest.fixture
def folds(tmp_path, cohort, monkeypatch):
    monkeypatch.setattr(
        Run, "load_model", lambda run, *_: Leaning(40.0 * int(run.config.data.dataset_dir[0][-1]))
    )
    places = make_folds(cohort.folder, count=3)

    def make(*overrides, seed=1):
        return [
            str(
                make_run(
                    tmp_path / f"run{seed}-{place.name}",
                    Cohort(place),
                    f"data.dataset_dir=[{place}]",
                    f"train.seed={seed}",
                    *overrides,
                )
            )
            for place in places
        ]

    return make


def test_everybody_is_tested_once_and_pooled(folds, cohort, tmp_path, capsys):
    results = evaluate(
        folds(), output=str(tmp_path / "all"), json=True, **OPTIONS | {"baselines": "fc"}
    )
    printed = capsys.readouterr()
    [summary] = json.loads(printed.out)["folds"]
    assert (summary["n_people"], summary["n_scans"]) == (36, 72)
    scores = [result.predictors["model"].metrics["auc"].value for result in results]
    model = summary["rows"]["model"]
    assert model["fold_scores"] == [pytest.approx(scores)]
    assert model["mean_over_folds"] == pytest.approx(np.mean(scores))
    assert model["sd_over_folds"] == pytest.approx(np.std(scores, ddof=1))
    assert set(summary["rows"]) == set(results[0].predictors)
    pooled = summary["pooled"]["1"]
    assert set(pooled["predictors"]) == set(summary["rows"])
    assert pooled["verdict"]["text"]
    assert "36 people, each tested once in all folds" in printed.err
    people = pd.read_csv(tmp_path / "all/folds/per_person.csv")
    assert people.groupby("predictor")["subject_id"].nunique().eq(36).all()
    assert (tmp_path / "all/folds/folds.md").read_text().startswith("### SYNTHETIC toy")


def test_how_a_fold_leans_does_not_count(folds, tmp_path):
    """A constant that differs between folds stays at chance, and offsets hide nothing.

    Read from the files of the runs, as `make results` does.
    """
    made = folds("instruct.tasks=[sex,age]")
    evaluate(made, **OPTIONS)
    found = [(open_run(one), read_results(open_run(one).folder / "evaluation")) for one in made]
    by_task = {one.task: one for one in summarise_folds(found, EvaluationOptions())}
    for task, metric, chance in (("sex", "auc", 0.5), ("age", "r", 0.0)):
        [result] = by_task[task].pooled.values()
        scores = {name: p.metrics[metric].value for name, p in result.predictors.items()}
        assert scores["text_only"] == pytest.approx(chance, abs=1e-9)
        assert scores["majority"] == pytest.approx(chance, abs=1e-9)
        assert scores["model"] == pytest.approx(by_task[task].rows["model"].mean, abs=0.08)
        assert scores["model"] > chance + 0.1
    # a score per person needs both classes in that person
    assert by_task["sex"].rows["model"].per_person.empty  # a person has one sex
    assert "n/a" in "\n".join(by_task["sex"].lines())
    assert by_task["sex"].to_dict()["rows"]["model"]["per_person"]["mean"] is None


def test_scores_within_people(folds, cohort, monkeypatch):
    """With one label per session, each person has an AUC."""
    samples = cohort.table[["subject_id", "session_id"]].rename(
        columns={"subject_id": "participant_id"}
    )
    samples["stimulus"] = (samples["session_id"] == "1").astype(int)
    for place in make_folds(cohort.folder, count=3):
        samples.to_csv(place / "samples.tsv", sep="\t", index=False)
    made = folds("instruct.tasks=[stimulus]")
    evaluate(made, **OPTIONS)
    for place in make_folds(cohort.folder, count=3):
        (place / "samples.tsv").unlink()
    people = pd.read_csv(open_run(made[0]).folder / "evaluation/folds/per_person.csv")
    model = people[people["predictor"] == "model"]
    assert len(model) == 36
    assert set(model["score"]) <= {0.0, 0.5, 1.0}
    assert (model["n_scans"] == 2).all()


def test_training_seeds_are_averaged_over(folds):
    made = [*folds(seed=1), *folds(seed=2)]
    results = evaluate(made, **OPTIONS)
    found = [(open_run(r), [one]) for r, one in zip(made, results, strict=True)]
    [summary] = summarise_folds(found, EvaluationOptions())
    assert summary.rows["model"].fold_scores.shape == (2, 3)
    assert sorted(summary.pooled) == [1, 2]
    assert summary.rows["model"].sd_seeds == pytest.approx(0)
    [alone] = summarise_split([found[0], found[3]], EvaluationOptions())
    assert alone.rows["model"].fold_scores.shape == (2, 1)
    assert "12 test people, 2 training seeds" in alone.lines()[0]
    with pytest.raises(InputError, match="give one run per fold and seed"):
        summarise_folds(found[:-1], EvaluationOptions())


def test_runs_without_folds_are_not_pooled(tmp_path, planted, monkeypatch, capsys):
    monkeypatch.setattr(Run, "load_model", lambda run, *_: ScanReader())
    made = [
        str(make_run(tmp_path / f"run{seed}", planted, f"train.seed={seed}")) for seed in (1, 2)
    ]
    evaluate(made, json=True, **OPTIONS)
    assert "folds" not in json.loads(capsys.readouterr().out)
    assert recipe(open_run(made[0]).config) == recipe(open_run(made[1]).config)
