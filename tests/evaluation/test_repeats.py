import numpy as np
import pytest

from fmrilm.evaluation.repeats import (
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
