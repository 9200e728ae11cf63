"""Readers find what is there, find nothing where nothing is, and never judge their own people."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from fmrilm.lm.summary.readers import PENALTIES, _folds, _ridge, fit_reader

N, D = 160, 60
SLICES = {"first": [slice(0, 20)], "second": [slice(20, 40), slice(40, 60)]}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def planted(rng, people=N, scans=1):
    groups = np.repeat(np.arange(people), scans)
    label = rng.integers(2, size=people)[groups]
    numbers = rng.standard_normal((len(groups), D))
    numbers[:, 3] += 1.5 * label
    return numbers, label[:, None].astype(float), groups


def test_the_family_that_carries_the_answer_is_found(rng):
    numbers, target, groups = planted(rng)
    reader = fit_reader(numbers, target, groups, SLICES)
    assert reader.shares["first"] > 0.9
    fresh, truth, _ = planted(rng, 400)
    said = fresh @ reader.weights + reader.bias
    assert roc_auc_score(truth[:, 0], said[:, 0]) > 0.75
    probability = 1 / (1 + np.exp(-said))
    loss = -np.where(truth > 0.5, np.log(probability), np.log(1 - probability)).mean()
    assert loss < 0.62  # chance: 0.69; over-confident scores are above it


def test_what_it_says_of_its_own_people_is_as_good_as_of_others(rng):
    numbers, target, groups = planted(rng)
    reader = fit_reader(numbers, target, groups, SLICES)
    fresh, truth, _ = planted(rng, 2000)
    outside = roc_auc_score(truth[:, 0], (fresh @ reader.weights)[:, 0])
    inside = roc_auc_score(target[:, 0], (numbers @ reader.weights)[:, 0])
    held_out = roc_auc_score(target[:, 0], reader.held_out[:, 0])
    assert abs(held_out - outside) < 0.07
    assert inside > held_out


def test_noise_is_read_as_nothing(rng):
    silent = 0
    for _ in range(20):
        numbers = rng.standard_normal((N, D))
        target = rng.integers(2, size=(N, 1)).astype(float)
        reader = fit_reader(numbers, target, np.arange(N), SLICES)
        silent += not any(reader.shares.values())
        fresh = rng.standard_normal((500, D)) @ reader.weights
        assert np.abs(fresh).std() < 1.5
    assert silent >= 12  # each of three slices is above chance in one of twenty


def test_a_person_is_left_out_with_all_scans(rng):
    """Numbers that tell the person, and nothing else: a leave-one-scan-out score would be high."""
    people = 60
    groups = np.repeat(np.arange(people), 3)
    own = rng.standard_normal((people, D))
    numbers = own[groups] + 0.01 * rng.standard_normal((len(groups), D))
    target = rng.integers(2, size=people)[groups][:, None].astype(float)
    reader = fit_reader(numbers, target, groups, SLICES)
    if reader.held_out.std() > 0:
        assert roc_auc_score(target[:, 0], reader.held_out[:, 0]) < 0.75


def test_scores_are_those_of_a_ridge_regression_without_the_fold(rng):
    numbers, target, groups = planted(rng)
    folds = _folds(groups)
    weights, scores = _ridge(numbers, target - target.mean(0), folds)
    matches = 0
    for penalty in PENALTIES:
        expected = np.zeros_like(target)
        for out in folds:
            kept = np.setdiff1d(np.arange(len(groups)), out)
            model = Ridge(penalty * D).fit(numbers[kept], target[kept])
            expected[out] = (model.predict(numbers[out]) - target[kept].mean(0)).reshape(-1, 1)
        if np.allclose(expected, scores, atol=1e-8):
            matches += 1
            whole = Ridge(penalty * D).fit(numbers, target)
            np.testing.assert_allclose(weights[:, 0], whole.coef_.ravel(), atol=1e-8)
    assert matches == 1


def test_several_answers_and_numbers(rng):
    numbers = rng.standard_normal((300, D))
    kind = rng.integers(3, size=300)
    numbers[np.arange(300), kind] += 2
    one_hot = (kind[:, None] == np.arange(3)).astype(float)
    reader = fit_reader(numbers, one_hot, np.arange(300), SLICES)
    assert ((numbers @ reader.weights + reader.bias).argmax(1) == kind).mean() > 0.6
    value = numbers[:, 45] + 0.5 * rng.standard_normal(300)
    reader = fit_reader(numbers, value[:, None], np.arange(300), SLICES, is_class=False)
    assert np.corrcoef(reader.held_out[:, 0], value)[0, 1] > 0.7
    assert reader.scale == pytest.approx((value.mean(), value.std()))
    assert reader.shares["second"] > 0.9
    assert np.polyfit(reader.held_out[:, 0], value, 1)[0] == pytest.approx(value.std(), rel=1e-6)
