import numpy as np
import pytest

from fmrilm.evaluation.calibration import (
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
from fmrilm.evaluation.metrics import ece


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
