import time

import numpy as np
import pytest
from scipy.stats import norm

from fmrilm.stats.classification import accuracy, auc, classification_metrics, weighted_auc
from fmrilm.stats.intervals import (
    Answers,
    Estimate,
    differences,
    estimates,
    left_out_weights,
    score_samples,
    subject_weights,
)
from fmrilm.stats.regression import pearson

CLASSES = ["no", "yes"]


def _answers(scores):
    p = 1 / (1 + np.exp(-scores))
    return Answers(np.stack([1 - p, p], axis=1))


def test_a_resample_draws_whole_subjects():
    subjects = np.array(["a", "b", "b", "c", "c", "c"])
    weights = np.concatenate(list(subject_weights(subjects, 50)))
    assert weights.shape == (50, 6)
    assert (weights[:, 1] == weights[:, 2]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_resamples_do_not_depend_on_the_block_size(monkeypatch):
    subjects = np.repeat(np.arange(20), 2)
    whole = np.concatenate(list(subject_weights(subjects, 30, seed=3)))
    monkeypatch.setattr("fmrilm.stats.intervals._CELLS", 200)
    parts = list(subject_weights(subjects, 30, seed=3))
    assert len(parts) > 1
    assert (np.concatenate(parts) == whole).all()


def test_the_interval_is_wider_when_scans_of_a_person_repeat_each_other():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.resize([0, 1], 40), 5)
    scores = np.repeat(rng.normal(size=40), 5) + labels
    widths = []
    for subjects in (np.repeat(np.arange(40), 5), np.arange(200)):
        samples = score_samples({"m": _answers(scores)}, labels, subjects, {"auc": auc})
        found = estimates(samples["m"], labels, subjects, CLASSES)["auc"]
        widths.append(found.high - found.low)
    assert widths[0] > 1.5 * widths[1]


def test_the_paired_difference_is_narrower_than_the_two_intervals_suggest():
    rng = np.random.default_rng(1)
    labels = np.resize([0, 1], 200)
    shared = rng.normal(size=200) + labels
    answers = {"a": _answers(shared), "b": _answers(shared + 0.1 * rng.normal(size=200))}
    subjects = np.arange(200)
    samples = score_samples(answers, labels, subjects, {"auc": auc})
    alone = estimates(samples["a"], labels, subjects, CLASSES)["auc"]
    paired = differences(samples["a"], samples["b"], labels, subjects, CLASSES)["auc"]
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)
    assert paired.value == pytest.approx(samples["a"]["auc"].score - samples["b"]["auc"].score)


def test_a_score_without_a_class_is_nan_with_the_reason():
    labels, subjects = np.zeros(20, dtype=int), np.arange(20)
    samples = score_samples({"m": _answers(np.zeros(20))}, labels, subjects, {"auc": auc})
    found = estimates(samples["m"], labels, subjects, CLASSES)["auc"]
    assert np.isnan(found.value)
    assert "yes" in found.reason
    assert found.to_dict()["value"] is None


def test_too_few_subjects_give_a_score_without_an_interval_and_say_so():
    labels = np.array([0, 1, 0, 1])
    samples = score_samples({"m": _answers(labels - 0.5)}, labels, labels, {"accuracy": accuracy})
    found = estimates(samples["m"], labels, np.array([0, 1, 2, 3]), CLASSES)["accuracy"]
    assert found.value == 1.0
    assert np.isnan(found.low)
    assert "too few" in found.reason


def test_an_estimate_survives_json():
    for estimate in (Estimate(0.5, 0.4, 0.6), Estimate(float("nan"), reason="no scan")):
        again = Estimate.from_dict(estimate.to_dict())
        assert again.to_dict() == estimate.to_dict()


def test_repetitions_are_averaged():
    labels = np.resize([0, 1], 10)
    right, wrong = np.eye(2)[labels], np.eye(2)[1 - labels]
    both = Answers(np.stack([right, wrong]))
    samples = score_samples({"m": both}, labels, labels, {"accuracy": accuracy})
    assert samples["m"]["accuracy"].score == 0.5


@pytest.mark.parametrize(("people", "true_auc"), [(30, 0.6), (30, 0.9), (120, 0.76)])
def test_intervals_cover_the_truth_in_93_to_97_percent_of_500_data_sets(people, true_auc):
    # One to three scans per person that share most of their noise; AUC of the scores is known.
    distance = np.sqrt(2) * norm.ppf(true_auc)
    rng = np.random.default_rng(int(100 * true_auc))
    hits = 0
    for _ in range(500):
        subjects = np.repeat(np.arange(people), rng.integers(1, 4, people))
        labels = np.resize([0, 1], people)[subjects]
        own, noise = rng.normal(size=people)[subjects], rng.normal(size=len(subjects))
        scores = distance * labels + np.sqrt(0.8) * own + np.sqrt(0.2) * noise
        samples = score_samples({"m": _answers(scores)}, labels, subjects, {"auc": auc})
        found = estimates(samples["m"], labels, subjects, CLASSES)["auc"]
        hits += found.low <= true_auc <= found.high
    assert 0.93 <= hits / 500 <= 0.97, hits / 500


def test_a_skewed_score_has_an_interval_that_reaches_further_down_than_up():
    rng = np.random.default_rng(5)
    labels, subjects = np.resize([0, 1], 40), np.arange(40)
    samples = score_samples(
        {"m": _answers(2.2 * labels + rng.normal(size=40))}, labels, subjects, {"auc": auc}
    )
    found = estimates(samples["m"], labels, subjects, CLASSES)["auc"]
    assert found.value - found.low > 1.5 * (found.high - found.value)
    weights = np.concatenate(list(subject_weights(subjects, 2000)))
    positive = _answers(2.2 * labels + np.random.default_rng(5).normal(size=40)).scores[:, 1]
    plain = np.quantile(weighted_auc(labels == 1, positive, weights), [0.025, 0.975])
    assert found.low < plain[0]


def test_many_subjects_are_left_out_in_groups():
    subjects = np.repeat(np.arange(1000), 2)
    weights = left_out_weights(subjects)
    assert weights.shape == (200, 2000)
    assert (weights == 0).sum(axis=0).tolist() == [1] * 2000
    assert (left_out_weights(np.array(["a", "b", "b"])) == [[0, 1, 1], [1, 0, 0]]).all()


def test_all_metrics_of_a_thousand_scans_take_seconds():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    answers = {str(i): _answers(rng.normal(size=1000)) for i in range(3)}
    start = time.perf_counter()
    score_samples(answers, labels, np.arange(1000), classification_metrics(2))
    assert time.perf_counter() - start < 20


def test_the_interval_of_a_correlation_is_that_of_fisher_on_independent_normal_values():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=2000)
    values = 0.6 * labels + 0.8 * rng.normal(size=2000)
    answers = {"m": Answers(values[:, None], values), "n": Answers(-values[:, None], -values)}
    samples = score_samples(answers, labels, np.arange(2000), {"r": pearson})
    found, other = (estimates(samples[name], labels, np.arange(2000), [])["r"] for name in "mn")
    expected = np.tanh(np.arctanh(found.value) + np.array([-1.96, 1.96]) / np.sqrt(2000 - 3))
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.004)
    np.testing.assert_allclose([other.low, other.high], [-found.high, -found.low])


def test_a_correlation_of_one_and_a_difference_of_two_have_intervals_too():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=30)
    noisy = labels + rng.normal(size=30)
    answers = {"a": Answers(labels[:, None], labels), "b": Answers(noisy[:, None], noisy)}
    samples = score_samples(answers, labels, np.arange(30), {"r": pearson})
    exact = estimates(samples["a"], labels, np.arange(30), [])["r"]
    assert exact.low == pytest.approx(1)
    assert exact.high == pytest.approx(1)
    gap = differences(samples["a"], samples["b"], labels, np.arange(30), [])["r"]
    assert 0 < gap.low < gap.value < gap.high


def _windows(people, rng, distance, mean_sd=0.6, apart_sd=0.3):
    """56 windows per person, half of each class; people differ in mean and in class distance."""
    subjects, labels = np.repeat(np.arange(people), 56), np.tile([0, 1], 28 * people)
    own, apart = rng.normal(size=(2, people))[:, subjects]
    scores = (labels - 0.5) * distance * (1 + apart_sd * apart) + mean_sd * own
    return subjects, labels, scores + rng.normal(size=len(labels))


@pytest.mark.parametrize(("people", "true_auc"), [(7, 0.987), (7, 0.927), (12, 0.987)])
def test_intervals_of_clustered_windows_cover_the_truth_too(people, true_auc):
    # Resampling people (BCa) covered 84.7, 91.3 and 86.0% of these.
    z = norm.ppf(true_auc)
    distance = np.sqrt(2 * z**2 * 1.36 / (1 - (0.3 * z) ** 2 / 2))
    rng, hits = np.random.default_rng(people), 0
    for _ in range(300):
        subjects, labels, scores = _windows(people, rng, distance)
        samples = score_samples({"m": _answers(scores)}, labels, subjects, {"auc": auc})
        told = estimates(samples["m"], labels, subjects, CLASSES)["auc"]
        hits += told.low <= true_auc <= told.high
    assert 0.92 <= hits / 300 <= 0.98, hits / 300


def test_a_score_of_one_has_an_interval_that_few_people_make_wide():
    lows = []
    for people in (7, 30):
        subjects, labels, _ = _windows(people, np.random.default_rng(0), 1.0)
        samples = score_samples({"m": _answers(9.0 * labels)}, labels, subjects, {"auc": auc})
        told = estimates(samples["m"], labels, subjects, CLASSES)["auc"]
        assert told.value == told.high == 1.0
        lows.append(told.low)
    np.testing.assert_allclose(lows, [0.05 ** (1 / 7), 0.05 ** (1 / 30)])


def test_two_people_of_a_class_give_a_score_without_an_interval():
    labels, subjects = np.array([0] * 10 + [1] * 2), np.arange(12)
    scores = np.random.default_rng(0).normal(size=12)
    samples = score_samples({"m": _answers(scores)}, labels, subjects, {"auc": auc})
    told = estimates(samples["m"], labels, subjects, CLASSES)["auc"]
    assert np.isnan(told.low)
    assert told.reason == "no interval: 2 subjects have scans of class yes"


def test_predictors_that_say_the_same_do_not_differ_by_anything():
    rng = np.random.default_rng(2)
    subjects, labels, scores = _windows(7, rng, 2.0)
    samples = score_samples(
        {"a": _answers(scores), "b": _answers(scores)}, labels, subjects, {"auc": auc}
    )
    told = differences(samples["a"], samples["b"], labels, subjects, CLASSES)["auc"]
    assert (told.value, told.low, told.high) == pytest.approx((0, 0, 0), abs=1e-8)
