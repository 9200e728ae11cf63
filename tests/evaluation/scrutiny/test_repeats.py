from dataclasses import replace

import numpy as np
import pytest

from fmrilm.evaluation.scrutiny.resplits import (
    Scans,
    grouped_split,
    learning_curve,
    leave_site_out,
    repeated_splits,
)


def _scans(n_people=120, effect=1.0, site_effect=0.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.resize([0, 1], n_people), 2)
    subjects = np.repeat([f"s{i:03d}" for i in range(n_people)], 2)
    sites = np.repeat(np.resize(["a", "a", "b", "b", "c", "c"], n_people), 2)
    values = rng.normal(size=(2 * n_people, 10))
    values[:, 0] += effect * labels + site_effect * (sites == "a") * labels
    return Scans({"x": values, "noise": rng.normal(size=(240, 5))}, labels, subjects, sites, 2)


@pytest.mark.parametrize("seed", range(4))
def test_nobody_is_in_two_parts_and_labels_are_spread_evenly(seed):
    scans = _scans()
    parts = grouped_split(scans, seed)
    assert sorted(np.concatenate(parts)) == list(range(240))
    people = [set(scans.subjects[part]) for part in parts]
    assert sum(len(part) for part in people) == len(set.union(*people)) == 120
    assert [len(p) / 120 for p in people] == pytest.approx([0.7, 0.1, 0.2], abs=0.03)
    assert all(abs(scans.labels[part].mean() - 0.5) < 0.15 for part in parts)


def test_other_seeds_give_other_splits():
    scans = _scans()
    first, second = (set(grouped_split(scans, seed)[2]) for seed in (0, 1))
    assert first != second


def test_repeated_splits_find_the_effect_and_none_in_noise():
    found = repeated_splits(_scans(effect=2.0), 3)
    assert found["x"]["estimate"].low > 0.55
    assert found["noise"]["estimate"].low < 0.5 < found["noise"]["estimate"].high
    assert len(found["x"]["scores"]) == 3


def test_an_effect_of_one_site_does_not_carry_over_to_the_others():
    found = leave_site_out(_scans(effect=0.0, site_effect=3.0))["x"]
    assert set(found) == {"a", "b", "c"}
    assert found["b"].value < 0.65
    assert found["c"].value < 0.65


def test_one_site_cannot_be_left_out():
    scans = _scans()
    alone = Scans(scans.features, scans.labels, scans.subjects, np.full(240, "a"), 2)
    assert leave_site_out(alone) == {}


def test_learning_curves_use_more_and_more_of_the_same_training_people():
    scans = _scans(effect=2.0)
    found = learning_curve(scans, grouped_split(scans, 0))["x"]
    people = [point["people"] for point in found]
    assert people == sorted(set(people))
    assert people[-1] == pytest.approx(84, abs=1)
    assert found[-1]["estimate"].value > 0.75


def _numbers(effect, seed=0):
    """Two scans of each of 120 people whose first feature goes with their age."""
    rng = np.random.default_rng(seed)
    age = np.repeat(rng.uniform(20, 80, 120), 2)
    values = rng.normal(size=(240, 10))
    values[:, 0] += effect * (age - 50) / 17
    features = {"x": values, "flat": np.ones((240, 2))}
    subjects = np.repeat([f"s{i:03d}" for i in range(120)], 2)
    return Scans(features, age, subjects, np.resize(["a", "a", "b", "b"], 240), None)


def test_a_number_that_goes_with_the_features_is_found_and_none_where_there_is_none():
    found = repeated_splits(_numbers(1.5), 4)["x"]
    assert found["estimate"].low > 0.6
    assert len(found["scores"]) == 4
    without = repeated_splits(_numbers(0.0), 4)["x"]["estimate"]
    assert without.low < 0 < without.high


@pytest.mark.parametrize("seed", range(3))
def test_low_and_high_numbers_are_spread_evenly_over_the_parts(seed):
    scans = _numbers(0.0)
    means = [scans.labels[part].mean() for part in grouped_split(scans, seed)]
    assert np.ptp(means) < 6  # the standard deviation is 17


def test_numbers_are_asked_of_every_site_that_was_left_out_and_of_more_and_more_people():
    scans = _numbers(1.5)
    sites = leave_site_out(scans)["x"]
    assert set(sites) == {"a", "b"}
    assert all(0.5 < found.low < found.value < found.high for found in sites.values())
    curve = learning_curve(scans, grouped_split(scans, 0))["x"]
    assert curve[-1]["estimate"].value > 0.6
    assert curve[0]["estimate"].low <= curve[0]["estimate"].value <= curve[0]["estimate"].high


def test_the_same_number_for_everybody_has_no_correlation_and_it_is_said_why():
    scans = _numbers(1.0)
    repeats = repeated_splits(scans, 3)["flat"]
    assert np.isnan(repeats["scores"]).all()
    last = learning_curve(scans, grouped_split(scans, 0))["flat"][-1]["estimate"]
    for found in (repeats["estimate"], last, leave_site_out(scans)["flat"]["a"]):
        assert np.isnan(found.value)
        assert "same number" in found.reason


def test_what_cannot_be_learned_is_undefined_with_the_reason():
    train, val, test = np.arange(40), np.arange(40, 60), np.arange(60, 240)
    same = replace(_numbers(1.0), labels=np.r_[np.full(40, 30.0), np.arange(200.0)])
    missing = replace(_scans(), labels=np.r_[np.zeros(40, int), np.resize([0, 1], 200)])
    for scans, reason in ((same, "labels are the same"), (missing, "class is missing")):
        found = scans.score("x", train, val, test)
        assert np.isnan(found.value)
        assert found.reason.endswith("in training")
        assert reason in found.reason
