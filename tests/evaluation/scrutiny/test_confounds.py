import shutil

import numpy as np
import pandas as pd
import pytest

from evaluation_helpers import make_cohort, make_run
from fmrilm.cohort.cohort import Cohort
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.questions import select
from fmrilm.evaluation.scrutiny.confounds import by_stratum, predictability, residualised, strata
from fmrilm.stats.classification import weighted_auc
from fmrilm.tasks import TASKS


@pytest.fixture(scope="module")
def confounded(tmp_path_factory):
    """A cohort whose women are scanned at site b four times out of five; no effect in the scans."""
    cohort = make_cohort(tmp_path_factory.mktemp("c") / "toy", effect=0.0, n_subjects=200)
    path = cohort.folder / "participants.tsv"
    table = pd.read_csv(path, sep="\t")
    flip = np.random.default_rng(0).uniform(size=len(table)) < 0.2
    table["site"] = np.where((table["sex"] == "F") ^ flip, "b", "a")
    table.to_csv(path, sep="\t", index=False)
    return Cohort(cohort.folder)


def _site_scores(question, seed=0):
    """A model that reads nothing but the site."""
    noise = np.random.default_rng(seed).normal(size=len(question.rows))
    value = 1 / (1 + np.exp(-(3.0 * (question.sites == "b") - 1.5 + 0.5 * noise)))
    return np.stack([1 - value, value], axis=1)


def test_a_site_that_predicts_the_label_is_found_and_an_unrelated_age_is_not(confounded):
    found = predictability(select(confounded, TASKS["sex"], "test"))
    assert found["site"]["low"] > 0.6
    assert found["age"]["low"] < 0.5 < found["age"]["high"]


def test_a_score_that_rests_on_the_site_vanishes_within_sites_and_after_residualisation(confounded):
    question, val = (select(confounded, TASKS["sex"], s) for s in ("test", "val"))
    scores, val_scores = _site_scores(question), _site_scores(val, 1)
    within = by_stratum(question, scores)["site"]["groups"]
    assert abs(np.mean([group["value"] for group in within.values()]) - 0.5) < 0.15
    ones = np.ones((1, len(question.rows)))
    assert weighted_auc(question.labels == 1, scores[:, 1], ones)[0] > 0.7
    left = residualised(question, scores, val, val_scores)
    assert left["covariates"] == ["age", "site"]
    assert left["low"] < 0.55


def test_strata_are_age_bands_and_sites_and_every_scan_is_in_one(confounded):
    question = select(confounded, TASKS["sex"], "test")
    found = strata(question)
    assert set(found) == {"age", "site"}
    assert len(np.unique(found["age"])) == 3
    assert all(len(groups) == len(question.rows) for groups in found.values())


def test_a_small_stratum_is_counted_but_not_scored(confounded):
    question = select(confounded, TASKS["sex"], "test")
    confounded.table.loc[question.rows[:2], "site"] = "tiny"
    try:
        found = by_stratum(question, _site_scores(question))["site"]["groups"]["tiny"]
    finally:
        confounded.table.loc[question.rows[:2], "site"] = "a"
    assert found == {"n_scans": 2, "reason": "too few scans"}


def test_evaluate_warns_of_a_covariate_that_does_as_well_as_the_model(
    confounded, tmp_path, model, capsys
):
    [result] = evaluate([str(make_run(tmp_path / "run", confounded))])
    [warning] = result.scrutiny["warnings"]
    assert warning.startswith("site alone predicts the label")
    assert "site alone" in capsys.readouterr().out


def test_sites_and_sexes_in_whole_numbers_are_categories(confounded, tmp_path):
    """Sites 1, 3, 5 scan mostly women, 2, 4, 6 mostly men: no straight line tells them apart."""
    rng = np.random.default_rng(0)
    folder = shutil.copytree(confounded.folder, tmp_path / "toy")
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    table["site"] = 2 * rng.integers(3, size=len(table)) + np.where(table["site"] == "b", 1, 2)
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    of_codes = select(Cohort(folder), TASKS["sex"], "test")
    table["site"] = "site " + table["site"].astype(str)
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    of_words = select(Cohort(folder), TASKS["sex"], "test")
    by_codes, by_words = (predictability(q)["site"]["value"] for q in (of_codes, of_words))
    assert by_codes == by_words > 0.7
    assert set(strata(of_codes)["site"]) == set("123456")
