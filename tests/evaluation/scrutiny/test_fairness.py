import itertools
import tracemalloc

import numpy as np
import pytest

from evaluation_helpers import make_cohort
from fmrilm.evaluation.questions import select
from fmrilm.evaluation.scrutiny.fairness import N_PERMUTATIONS, _deals, fairness, warnings
from fmrilm.stats.classification import weighted_auc
from fmrilm.tasks import TASKS


@pytest.fixture(scope="module")
def question(tmp_path_factory):
    cohort = make_cohort(tmp_path_factory.mktemp("c") / "toy", effect=0.0, n_subjects=400)
    return select(cohort, TASKS["sex"], "test")


def _scores(question, unfair, seed=0):
    """A model that knows the label, but at site b (with `unfair`) guesses."""
    noise = np.random.default_rng(seed).normal(size=len(question.rows))
    knows = np.where(unfair & (question.sites == "b"), 0.0, 2.0)
    value = 1 / (1 + np.exp(-(knows * (2 * question.labels - 1) + 1.5 * noise)))
    return np.stack([1 - value, value], axis=1)


def test_a_gap_is_the_difference_of_the_best_and_the_worst_group(question):
    scores = _scores(question, True)
    found = fairness(question, scores)["site"]["auc"]
    by_hand = []
    for site in ("a", "b"):
        keep = question.sites == site
        ones = np.ones((1, keep.sum()))
        by_hand.append(weighted_auc(question.labels[keep] == 1, scores[keep, 1], ones)[0])
    assert found["value"] == pytest.approx(by_hand[0] - by_hand[1], abs=1e-6)
    assert list(found["groups"].values()) == pytest.approx(by_hand, abs=1e-6)
    assert found["low"] < found["value"] < found["high"]
    assert found["low"] > found["by_chance"] > 0
    assert found["p_value"] < 0.01


def test_an_unfair_model_is_warned_of_and_a_fair_one_is_not(question):
    [*told] = warnings(fairness(question, _scores(question, True)), question)
    assert any("AUC differs" in one and "groups of site" in one for one in told)
    assert warnings(fairness(question, _scores(question, False)), question) == []


def test_both_rates_are_looked_at_in_sexes_age_bands_and_sites(question):
    found = fairness(question, _scores(question, False))
    assert set(found) == {"age", "site"}  # sex is the label
    assert set(found["age"]) == {"auc", "sensitivity", "specificity"}
    assert len(found["age"]["auc"]["groups"]) == 3


def test_the_share_of_chance_gaps_as_large_is_uniform_without_a_gap(question):
    found = [
        fairness(question, _scores(question, False, seed), seed)["site"]["auc"]["p_value"]
        for seed in range(30)
    ]
    assert 0.3 < np.mean(found) < 0.7
    assert np.mean(np.array(found) < 0.1) < 0.3


def test_groups_of_forty_thousand_people_are_dealt_out_in_blocks():
    masks = np.stack([np.arange(40_000) % 2 == group for group in (0, 1)]).astype(float)
    tracemalloc.start()
    every, blocks = _deals(masks, 0, 20)
    counts = [len(block) for block in itertools.islice(blocks, 3)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not every
    assert counts == [20, 20, 20]
    assert peak < 50 * 2**20


def test_what_is_dealt_does_not_depend_on_the_block_size():
    masks = np.stack([np.arange(30) % 2 == group for group in (0, 1)]).astype(float)
    few = np.concatenate(list(_deals(masks, 3, 7)[1]))
    [whole] = _deals(masks, 3, 5000)[1]
    np.testing.assert_array_equal(few, whole)
    assert len(whole) == N_PERMUTATIONS
