import numpy as np
import pytest

from fmrilm.stats.calibration import (
    abstention_threshold,
    apply_temperature,
    calibration_report,
    conformal_threshold,
    coverage_curve,
    fit_temperature,
    prediction_sets,
    reliability,
    value_report,
)
from fmrilm.stats.classification import ece


def _calibrated(n, seed, n_classes=3):
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(n, n_classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (rng.uniform(size=(n, 1)) > np.cumsum(p, axis=1)).sum(1).clip(0, n_classes - 1)
    return p, labels


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_that_was_put_in_is_found(true):
    p, labels = _calibrated(20000, 0)
    sharpened = apply_temperature(p, 1 / true)  # too sure by this factor
    assert fit_temperature(sharpened, labels) == pytest.approx(true, rel=0.05)


def test_a_temperature_changes_no_answer():
    p, _ = _calibrated(100, 1)
    assert (apply_temperature(p, 3.0).argmax(1) == p.argmax(1)).all()
    assert apply_temperature(p, 1.0) == pytest.approx(p)


def test_scaling_fitted_on_val_lowers_the_calibration_error_of_other_scans():
    p, labels = _calibrated(4000, 2)
    sharp = apply_temperature(p, 0.3)
    found, sure = calibration_report((sharp[:2000], labels[:2000]), (sharp[2000:], labels[2000:]))
    assert sure.sum() == found["abstention"]["answered"]
    assert found["after"]["ece"] < 0.3 * found["before"]["ece"]
    ones = np.ones((1, 2000))
    assert found["before"]["ece"] == pytest.approx(
        ece(labels[2000:], sharp[2000:], sharp[2000:].argmax(1), ones)[0], abs=1e-6
    )


@pytest.mark.parametrize("method", ["aps", "lac"])
def test_prediction_sets_cover_the_label_as_often_as_promised(method):
    covered, sizes = [], []
    for seed in range(40):
        p, labels = _calibrated(400, seed)
        threshold = conformal_threshold(p[:200], labels[:200], 0.1, method)
        sets = prediction_sets(p[200:], threshold, method)
        covered.append(sets[np.arange(200), labels[200:]].mean())
        sizes.append(sets.sum(1).mean())
    assert 0.885 < np.mean(covered) < (0.92 if method == "lac" else 1.0)
    assert np.mean(sizes) < 3


def test_too_few_validation_scans_give_sets_of_every_class():
    p, labels = _calibrated(5, 0)
    assert conformal_threshold(p, labels, 0.1) == np.inf
    assert prediction_sets(p, np.inf).all()


def test_abstention_keeps_the_accuracy_it_was_set_for():
    p, labels = _calibrated(4000, 3)
    threshold = abstention_threshold(p[:2000], labels[:2000], 0.9)
    sure = p[2000:].max(1) >= threshold
    right = p[2000:].argmax(1) == labels[2000:]
    assert right[sure].mean() == pytest.approx(0.9, abs=0.04)
    assert right.mean() < 0.8
    assert abstention_threshold(np.full((4, 2), 0.5), np.ones(4, dtype=int)) == np.inf


def test_the_coverage_curve_ends_at_the_plain_accuracy():
    p, labels = _calibrated(300, 4)
    coverage, accuracy = coverage_curve(p, labels)
    assert coverage[-1] == 1.0
    assert accuracy[-1] == (p.argmax(1) == labels).mean()


def test_reliability_bins_hold_every_scan_once():
    p, labels = _calibrated(300, 5)
    assert sum(row["count"] for row in reliability(p, labels)) == 300


def test_the_line_through_predicted_values_and_their_intervals_hold_on_other_scans():
    rng = np.random.default_rng(3)
    labels = rng.normal(50, 10, 2000)
    values = 20 + 0.5 * labels + rng.normal(0, 2, 2000)  # too flat, and off
    report, columns = value_report((values[:1000], labels[:1000]), (values[1000:], labels[1000:]))
    assert report["mae_after"] < 0.8 * report["mae_before"]
    assert report["intervals"]["coverage"] == pytest.approx(0.9, abs=0.03)
    inside = (columns["value_low"] <= labels[1000:]) & (labels[1000:] <= columns["value_high"])
    assert inside.mean() == pytest.approx(report["intervals"]["coverage"], abs=1e-4)


def test_too_few_validation_scans_give_no_interval_for_a_value():
    report, columns = value_report((np.arange(5.0), np.arange(5.0)), (np.ones(3), np.ones(3)))
    assert report["intervals"]["half_width"] is None
    assert np.isnan(columns["value_low"]).all()


def _people(count, n_scans, rng):
    """Two classes; a person's scans share a shift of the log-odds that the model cannot see."""
    subjects = np.repeat(np.arange(count), n_scans)
    labels = rng.integers(0, 2, len(subjects))
    shift = 2 * rng.normal(size=count)[subjects]
    logit = 1.5 * (2 * labels - 1) + shift + rng.normal(size=len(subjects))
    positive = 1 / (1 + np.exp(-logit))
    return np.stack([1 - positive, positive], axis=1), labels, subjects


def test_six_validation_scans_leave_the_answers_as_they_are():
    for seed in range(20):
        p, labels = _calibrated(206, seed)
        labels[:6] = p[:6].argmax(
            1
        )  # all right: the log-loss alone would make T as small as it may
        report, _ = calibration_report((p[:6], labels[:6]), (p[6:], labels[6:]))
        assert report["temperature"] == 1.0
        assert report["fitted"] is False
        assert "6 people are too few to fit on" in " ".join(report["notes"])
        assert report["after"] == report["before"]


@pytest.mark.parametrize("people", [10, 12, 20])
def test_a_temperature_of_few_people_costs_at_most_a_twentieth_of_the_log_loss(people):
    before, after = [], []
    for seed in range(40):
        p, labels = _calibrated(400 + people, seed, 2)
        report, _ = calibration_report((p[:people], labels[:people]), (p[people:], labels[people:]))
        before.append(report["before"]["log_loss"])
        after.append(report["after"]["log_loss"])
    assert np.mean(after) <= 1.05 * np.mean(before)


def test_answers_that_are_all_right_do_not_make_the_temperature_vanish():
    for scans in (1, 50):
        p, _ = _calibrated(12 * scans, 1, 2)
        temperature = fit_temperature(p, p.argmax(1), np.repeat(np.arange(12), scans))
        assert 0.3 < temperature < 1


def test_repeating_the_scans_of_everybody_changes_no_fit():
    p, labels = _calibrated(60, 2)
    people = np.arange(60)
    one = fit_temperature(p, labels, people)
    assert fit_temperature(*(np.repeat(x, 9, axis=0) for x in (p, labels, people))) == (
        pytest.approx(one, rel=1e-6)
    )
    once = conformal_threshold(p, labels, subjects=people)
    again = [np.repeat(x, 9, axis=0) for x in (p, labels)]
    assert conformal_threshold(*again, subjects=np.repeat(people, 9)) == once


def test_prediction_sets_hold_the_label_of_other_peoples_scans_as_often_as_promised():
    rng = np.random.default_rng(0)
    by_people, by_scans = [], []
    for _ in range(600):
        p, labels, subjects = _people(14, 40, rng)
        val, asked = subjects < 12, subjects >= 12
        for found, who in ((by_people, subjects[val]), (by_scans, None)):
            threshold = conformal_threshold(p[val], labels[val], 0.1, "lac", who)
            sets = prediction_sets(p[asked], threshold, "lac")
            found.append(sets[np.arange(asked.sum()), labels[asked]].mean())
    assert np.mean(by_people) > 0.89
    assert np.mean(by_people) > np.mean(by_scans) + 0.02


def test_eight_people_are_too_few_for_ninety_percent_however_many_scans_they_have():
    p, labels, subjects = _people(9, 40, np.random.default_rng(1))
    few = subjects < 8
    assert conformal_threshold(p[few], labels[few], subjects=subjects[few]) == np.inf
    assert conformal_threshold(p, labels, subjects=subjects) < np.inf
    people = (subjects[few], subjects[few])
    report, _ = calibration_report(*[(p[few], labels[few])] * 2, people)
    assert report["prediction_sets"]["holds_all_answers"]
    assert report["n_val_people"] == 8
    assert "9 needed" in report["notes"][-1]
    values, _ = value_report(*[(p[few, 0], labels[few] * 1.0)] * 2, people)
    assert values["intervals"]["half_width"] is None
    assert (values["slope"], values["intercept"]) == (1.0, 0.0)
    assert values["val_chose_epoch"]
