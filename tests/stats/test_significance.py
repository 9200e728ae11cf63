import tracemalloc

import numpy as np
import pytest
from scipy.stats import kstest

from fmrilm.stats.classification import weighted_auc
from fmrilm.stats.intervals import left_out_weights, subject_weights
from fmrilm.stats.regression import spearman
from fmrilm.stats.significance import (
    correlation_test,
    delong,
    nadeau_bengio,
    over_seeds,
    paired_test,
    permutation_test,
    structural_components,
)


def _auc(labels, scores):
    return weighted_auc(labels, scores, np.ones((1, len(labels))))[0]


def test_delong_variance_of_one_auc_agrees_with_a_large_simulation():
    # The spread of the AUC difference over fresh data sets is what DeLong's variance estimates.
    rng = np.random.default_rng(0)
    labels = np.resize([True, False], 120)
    gaps, tests = [], []
    for _ in range(400):
        shared = rng.normal(size=120)
        first = shared + 0.7 * rng.normal(size=120) + labels
        second = shared + 0.7 * rng.normal(size=120) + labels
        gaps.append(_auc(labels, first) - _auc(labels, second))
        tests.append(delong(labels, first, second))
    assert np.array(gaps) == pytest.approx([test.difference for test in tests])
    # Under the null the p-values are uniform.
    assert kstest([test.p_value for test in tests], "uniform").pvalue > 0.01


def test_permutation_p_values_are_uniform_when_there_is_no_difference():
    rng = np.random.default_rng(1)
    subjects = np.repeat(np.arange(30), 2)
    labels = np.repeat(np.resize([True, False], 30), 2)
    found = []
    for seed in range(150):
        own = np.repeat(rng.normal(size=30), 2) + 0.8 * labels
        first, second = own + rng.normal(size=60), own + rng.normal(size=60)
        found.append(permutation_test(labels, first, second, subjects, 99, seed).p_value)
    assert np.mean(np.array(found) <= 0.05) < 0.12
    assert 0.35 < np.mean(found) < 0.65


def test_both_tests_see_a_clear_difference():
    rng = np.random.default_rng(2)
    labels = np.resize([True, False], 100)
    good, bad = labels + 0.5 * rng.normal(size=100), rng.normal(size=100)
    assert delong(labels, good, bad).p_value < 1e-6
    found = permutation_test(labels, 100 * good, bad, np.arange(100), 999)
    assert found.p_value == 0.001
    assert found.difference == pytest.approx(delong(labels, good, bad).difference)


def test_identical_predictors_do_not_differ():
    labels, scores = np.resize([True, False], 20), np.arange(20.0)
    assert delong(labels, scores, scores).p_value == 1.0
    assert permutation_test(labels, scores, scores, labels, 49).p_value == 1.0


def test_a_missing_class_is_nan_with_the_reason():
    found = delong(np.ones(5, dtype=bool), np.arange(5.0), np.arange(5.0))
    assert np.isnan(found.p_value)
    assert "no scan" in found.method


def test_the_corrected_interval_is_wider_than_the_naive_one():
    scores = np.array([0.7, 0.72, 0.69, 0.74, 0.71])
    corrected, naive = nadeau_bengio(scores, 80, 20), over_seeds(scores)
    assert corrected.value == naive.value == pytest.approx(0.712)
    assert corrected.high - corrected.low == pytest.approx(
        (naive.high - naive.low) * np.sqrt((1 / 5 + 20 / 80) / (1 / 5))
    )
    assert np.isnan(nadeau_bengio(np.array([0.7]), 80, 20).low)


def test_the_p_values_of_correlations_are_uniform_without_a_difference_and_small_with_one():
    rng = np.random.default_rng(3)
    subjects, found = np.repeat(np.arange(40), 2), []
    for seed in range(150):
        labels = np.repeat(rng.normal(size=40), 2)
        first, second = labels + rng.normal(size=80), 50 + 9 * (labels + rng.normal(size=80))
        found.append(correlation_test(labels, first, second, subjects, 99, seed).p_value)
    assert np.mean(np.array(found) <= 0.05) < 0.12
    assert 0.35 < np.mean(found) < 0.65
    told = correlation_test(labels, labels + 0.1 * second, rng.normal(size=80), subjects, 199)
    assert told.p_value == 0.005
    assert correlation_test(labels, first, np.full(80, 3.0), subjects, 199).p_value < 0.05


def test_the_test_of_several_classes_is_that_of_the_mean_auc():
    rng = np.random.default_rng(4)
    labels, subjects = np.resize([0, 1, 2], 90), np.arange(90)
    good = np.eye(3)[labels] + 0.4 * rng.normal(size=(90, 3))
    bad = rng.normal(size=(90, 3))
    found = paired_test(labels, good, bad, subjects)
    expected = [np.mean([_auc(labels == c, s[:, c]) for c in range(3)]) for s in (good, bad)]
    assert found.difference == pytest.approx(expected[0] - expected[1])
    assert found.p_value < 0.01
    assert paired_test(labels, bad, rng.normal(size=(90, 3)), subjects).p_value > 0.01


def test_seven_people_allow_no_p_value_below_two_in_128_and_every_exchange_is_tried():
    rng = np.random.default_rng(0)
    subjects, labels = np.repeat(np.arange(7), 8), np.tile([True, False], 28)
    good, bad = labels + 0.1 * rng.normal(size=56), rng.normal(size=56)
    told = permutation_test(labels, good, bad, subjects)
    assert told.p_value == told.smallest_p == 2 / 128
    values = rng.normal(size=56)
    told = correlation_test(values, values, rng.normal(size=56), subjects)
    assert told.p_value == told.smallest_p == 2 / 128
    # Nothing is drawn: another seed and another number of permutations give the same.
    weaker = labels + rng.normal(size=56)
    first, second = (permutation_test(labels, weaker, bad, subjects, n, n) for n in (10, 500))
    assert first == second
    assert first.p_value * 64 == pytest.approx(round(first.p_value * 64))


def test_more_people_have_the_smallest_p_of_the_permutations_tried():
    labels, subjects = np.resize([True, False], 30), np.arange(30)
    told = permutation_test(labels, labels + 0.0, -1.0 * labels, subjects, 99)
    assert told.p_value == told.smallest_p == 0.01


def test_enumeration_gives_the_share_of_all_exchanges_by_hand():
    rng = np.random.default_rng(1)
    labels, subjects = np.tile([True, False], 6), np.repeat(np.arange(4), 3)
    first, second = rng.permutation(12) + 1.0, rng.permutation(12) + 1.0
    gaps = []
    for number in range(16):
        swap = np.array([number >> person & 1 for person in range(4)], dtype=bool)[subjects]
        a, b = np.where(swap, second, first), np.where(swap, first, second)
        gaps.append(_auc(labels, a) - _auc(labels, b))
    told = permutation_test(labels, first, second, subjects)
    assert told.p_value == np.mean(np.abs(gaps) >= abs(gaps[0]) - 1e-12)


def test_delong_is_not_used_on_a_handful_of_scans():
    rng = np.random.default_rng(2)
    for per_class, method in ((6, "all exchanges"), (19, "permutation"), (20, "DeLong")):
        labels = np.resize([0, 1], 2 * per_class)
        scores = [np.eye(2)[labels] + rng.normal(size=(2 * per_class, 2)) for _ in range(2)]
        told = paired_test(labels, *scores, np.arange(2 * per_class))
        assert method in told.method


def test_structural_components_are_those_of_all_pairs():
    rng = np.random.default_rng(3)
    positive, scores = rng.uniform(size=50) < 0.4, np.round(rng.normal(size=(2, 50)), 1)
    above = scores[:, positive, None] - scores[:, None, ~positive]
    wins = (above > 0) + 0.5 * (above == 0)
    hits, alarms = structural_components(positive, scores)
    np.testing.assert_allclose(hits, wins.mean(axis=2))
    np.testing.assert_allclose(alarms, wins.mean(axis=1))


def test_delong_needs_no_table_of_all_pairs():
    rng = np.random.default_rng(4)
    labels, scores = np.resize([True, False], 200_000), rng.normal(size=(2, 200_000))
    assert delong(labels, *scores).p_value > 0.001  # all pairs would take 80 GB


def test_memory_of_ranks_and_delong_grows_with_the_scans_not_with_their_square():
    n = 40_000  # a table of n x n numbers has 12.8 GB
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    first, second = labels + rng.normal(size=(2, n))
    weights = next(subject_weights(np.arange(n), 8))
    tracemalloc.start()
    delong(labels, first, second)
    spearman(labels, first, first, weights)
    left_out_weights(np.arange(n))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6
