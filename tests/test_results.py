"""`make results`: every fold and seed is run once, and README says what each number rests on."""

import importlib.util
from pathlib import Path

import pytest

from evaluation_helpers import ScanReader, make_cohort, make_run
from fmrilm.cohort.cohort import Cohort
from fmrilm.datasets.folds import make_folds
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.runs import Run

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def results():
    place = importlib.util.spec_from_file_location("results", ROOT / "docs" / "results.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(tmp_path_factory, results):
    """What training and evaluation would leave, made by a model that needs no training."""
    with pytest.MonkeyPatch.context() as patch:
        yield _train(tmp_path_factory.mktemp("results"), results, patch)


def _train(tmp_path, results, monkeypatch):
    monkeypatch.setattr(Run, "load_model", lambda run, *_: ScanReader())
    cohort = make_cohort(tmp_path / "toy", effect=0.25, n_subjects=24, sessions=1)
    jobs = []

    def run_part(part, folder, runs, seed, options, samples):
        jobs.append((part.name, folder.name, seed))
        chosen = Cohort(folder)
        run = make_run(
            runs / "-".join(map(str, jobs[-1])),
            chosen,
            f"data.dataset_dir=[{folder}]",
            f"train.seed={seed}",
        )
        asked = {"scrutiny": False, "free_text": False, "baselines": "none", "samples": samples}
        evaluate([str(run)], **asked)
        return run

    monkeypatch.setattr(results, "run_part", run_part)
    monkeypatch.setattr(results, "real_folds", lambda *_: make_folds(cohort.folder, count=2))
    monkeypatch.setattr(results, "synthetic_cohort", lambda *_: cohort.folder)
    parts = ("stimulus", "regulate", "sex")
    found = results.train_all(results.Options(tmp_path, folds=2, seeds=2, parts=parts))
    return found, jobs


def test_every_fold_is_run_for_every_seed_and_the_others_once(trained):
    found, jobs = trained
    stimulus = [job for job in jobs if job[0] == "stimulus"]
    assert stimulus == [
        ("stimulus", f"fold-{fold}", seed) for seed in (1337, 1338) for fold in (0, 1)
    ]
    assert [job for job in jobs if job[0] == "regulate"] == [
        ("regulate", f"fold-{fold}", 1337) for fold in (0, 1)
    ]
    assert [job for job in jobs if job[0] == "sex"] == [("sex", "toy", s) for s in (1337, 1338)]
    assert {name: len(runs) for name, runs in found.items()} == {
        "stimulus": 4,
        "regulate": 2,
        "sex": 2,
    }


def test_the_readme_gets_rows_verdicts_people_and_what_was_looked_at(trained, results, tmp_path):
    found, _ = trained
    texts = {name: results.block(name, runs, tmp_path / "out") for name, runs in found.items()}
    assert "24 people, each tested once in all folds, 2 training seeds" in texts["stimulus"]
    assert "24 people, each tested once in all folds, 24 scans" in texts["regulate"]
    assert "test people, 2 training seeds" in texts["sex"]
    assert "*Looked at*" in texts["stimulus"]
    assert "*Untouched*" in texts["sex"]
    for text in texts.values():
        assert "SYNTHETIC data: says nothing about people" in text
        for row in ("fMRI-LM", "majority class", "text only", "shuffled scan", "zero scan"):
            assert f"| {row} |" in text
    assert (tmp_path / "out/stimulus/per_person.csv").is_file()

    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{results.MARKS[0]}\nold\n{results.MARKS[1]}\nafter\n")
    results.put_into(readme, "new")
    assert readme.read_text() == f"before\n{results.MARKS[0]}\nnew\n{results.MARKS[1]}\nafter\n"


def test_people_whom_another_model_read_are_no_longer_untouched(trained, results, tmp_path):
    found, _ = trained
    run = found["sex"][0][0]
    again = {"scrutiny": False, "free_text": False, "samples": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "load_model", lambda run, *_: ScanReader())
        evaluate([str(run.folder)], **again)
        assert "*Untouched*" in results.block("sex", found["sex"], tmp_path / "out")
        [folder] = run.config.data.dataset_dir
        other = make_run(tmp_path / "other", Cohort(folder), f"data.dataset_dir=[{folder}]")
        evaluate([str(other)], **again)
    text = results.block("sex", found["sex"], tmp_path / "out")
    assert "*Looked at*: other models read the test people 1 times." in text
    assert "*Untouched*" not in text
