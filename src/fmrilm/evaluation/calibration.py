"""Probabilities that mean what they say: temperature, abstention and prediction sets from val.

Everything here is fitted on the validation scans and read on the scans that are evaluated.
``n`` scans, ``C`` classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fmrilm.evaluation.metrics import brier, ece, log_loss

TARGET_ACCURACY = 0.9
ALPHA = 0.1  # share of prediction sets that may miss the label


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that makes the validation log-loss smallest (Guo et al. 2017).

    Parameters
    ----------
    probabilities : ndarray, shape (n, C)
    labels : ndarray of int, shape (n,)
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = apply_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.clip(scaled[np.arange(len(labels)), labels], 1e-12, 1)).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.02), np.log(50)), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities of the scores divided by ``temperature``, shape (n, C)."""
    logits = np.log(np.clip(probabilities, 1e-12, 1)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    scaled = np.exp(logits)
    return scaled / scaled.sum(axis=1, keepdims=True)


def coverage_curve(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coverage and accuracy when only the k most certain scans are answered, k = 1..n."""
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == labels)[np.argsort(-confidence, kind="stable")]
    counts = np.arange(1, len(labels) + 1)
    return counts / len(labels), np.cumsum(right) / counts


def abstention_threshold(
    probabilities: np.ndarray, labels: np.ndarray, accuracy: float = TARGET_ACCURACY
) -> float:
    """Return the lowest confidence above which the answers reach ``accuracy``; inf if none does."""
    confidence = np.sort(probabilities.max(axis=1))[::-1]
    _, accuracies = coverage_curve(probabilities, labels)
    enough = np.flatnonzero(accuracies >= accuracy)
    return float(confidence[enough[-1]]) if len(enough) else float("inf")


def conformal_threshold(
    probabilities: np.ndarray, labels: np.ndarray, alpha: float = ALPHA, method: str = "aps"
) -> float:
    """Return the threshold of split conformal prediction, from the validation scans.

    ``lac``: one minus the label's probability (Sadinle et al. 2019); ``aps``: the probability mass
    of the classes ranked down to the label (Romano et al. 2020, arXiv 2006.02544, without
    randomisation, hence conservative). inf where there are too few scans for the guarantee.
    """
    scores = _conformity(probabilities, method)[np.arange(len(labels)), labels]
    rank = int(np.ceil((len(scores) + 1) * (1 - alpha)))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else float("inf")


def prediction_sets(probabilities: np.ndarray, threshold: float, method: str = "aps") -> np.ndarray:
    """Return which classes are in the prediction set of each scan, bool (n, C)."""
    return _conformity(probabilities, method) <= threshold + 1e-12


def _conformity(probabilities: np.ndarray, method: str) -> np.ndarray:
    if method == "lac":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    mass = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    scores = np.empty_like(mass)
    np.put_along_axis(scores, order, mass, axis=1)
    return scores


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, n_bins: int = 10
) -> list[dict[str, float]]:
    """Return confidence, accuracy and count of every bin of confidence that has scans."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    return [
        {
            "confidence": float(confidence[bins == b].mean()),
            "accuracy": float(right[bins == b].mean()),
            "count": int((bins == b).sum()),
        }
        for b in np.unique(bins)
    ]


def calibration_report(
    val: tuple[np.ndarray, np.ndarray], asked: tuple[np.ndarray, np.ndarray]
) -> tuple[dict[str, Any], np.ndarray]:
    """Return calibration before and after temperature scaling, abstention and prediction sets.

    Parameters
    ----------
    val, asked : (probabilities (n, C), labels (n,))
        What is fitted on, and what is read.

    Returns
    -------
    report : dict
    answered : ndarray of bool, shape (n,)
        Where the model is sure enough to answer.
    """
    temperature = fit_temperature(*val)
    scaled_val = apply_temperature(val[0], temperature)
    scaled = apply_temperature(asked[0], temperature)
    labels, ones = asked[1], np.ones((1, len(asked[1])))
    threshold = abstention_threshold(scaled_val, val[1])
    answered = scaled.max(axis=1) >= threshold
    right = scaled.argmax(axis=1) == labels
    sets = prediction_sets(scaled, conformal_threshold(scaled_val, val[1]))
    coverage, accuracy = coverage_curve(scaled, labels)
    scores = {
        when: {
            name: round(float(metric(labels, p, p.argmax(1), ones)[0]), 6)
            for name, metric in (("ece", ece), ("brier", brier), ("log_loss", log_loss))
        }
        for when, p in (("before", asked[0]), ("after", scaled))
    }
    report = {
        "temperature": round(temperature, 4),
        "n_val": len(val[1]),
        **scores,
        "reliability": reliability(asked[0], labels),
        "reliability_after": reliability(scaled, labels),
        "abstention": {
            "target_accuracy": TARGET_ACCURACY,
            "threshold": None if np.isinf(threshold) else round(threshold, 4),
            "answered": int(answered.sum()),
            "not_sure": int((~answered).sum()),
            "accuracy": round(float(right[answered].mean()), 4) if answered.any() else None,
        },
        "prediction_sets": {
            "wanted_coverage": 1 - ALPHA,
            "coverage": round(float(sets[np.arange(len(labels)), labels].mean()), 4),
            "mean_size": round(float(sets.sum(axis=1).mean()), 4),
        },
        "coverage_curve": [
            [round(float(c), 4), round(float(a), 4)]
            for c, a in zip(coverage, accuracy, strict=True)
        ],
    }
    return report, answered


def value_report(
    val: tuple[np.ndarray, np.ndarray], asked: tuple[np.ndarray, np.ndarray]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what a line fitted on val does to predicted values, and 90% prediction intervals.

    The intervals are split conformal: as wide as the errors on val say (Lei et al. 2018,
    arXiv 1604.04173); empty where there are too few validation scans for the guarantee.

    Parameters
    ----------
    val, asked : (predicted (n,), labels (n,))

    Returns
    -------
    report : dict
    columns : dict of str to ndarray, shape (n,)
        ``value_low`` and ``value_high``.
    """
    centred = val[0] - val[0].mean()
    spread = float((centred**2).sum())
    slope = float(centred @ val[1] / spread) if spread > 0 else 0.0
    intercept = float(val[1].mean() - slope * val[0].mean())
    errors = np.sort(np.abs(val[0] - val[1]))
    rank = int(np.ceil((len(errors) + 1) * (1 - ALPHA)))
    half = float(errors[rank - 1]) if rank <= len(errors) else float("inf")
    inside = np.abs(asked[0] - asked[1]) <= half
    line = slope * asked[0] + intercept
    known = np.isfinite(half)
    report = {
        "n_val": len(val[1]),
        "slope": round(slope, 4),
        "intercept": round(intercept, 4),
        "mae_before": round(float(np.abs(asked[0] - asked[1]).mean()), 4),
        "mae_after": round(float(np.abs(line - asked[1]).mean()), 4),
        "intervals": {
            "wanted_coverage": 1 - ALPHA,
            "half_width": round(half, 4) if known else None,
            "coverage": round(float(inside.mean()), 4) if known else None,
        },
    }
    edge = half if known else float("nan")
    return report, {"value_low": asked[0] - edge, "value_high": asked[0] + edge}
