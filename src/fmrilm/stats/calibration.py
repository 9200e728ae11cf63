"""Probabilities that mean what they say: temperature, abstention and prediction sets from val.

Everything here is fitted on the validation scans and read on the scans that are evaluated. What
counts is people: each has the same weight, however many scans it has. ``n`` scans, ``C`` classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fmrilm.stats.classification import brier, ece, log_loss

TARGET_ACCURACY = 0.9
ALPHA = 0.1  # share of prediction sets that may miss the label
MIN_PEOPLE = 10  # of val, to fit a temperature or a line
PRIOR_SD = 0.5  # of the log of the temperature: two in three within a factor of 1.65 of 1
MAX_TEMPERATURE = 10.0  # and its inverse
CHOSE_EPOCH = (
    "the validation scans also chose the epoch, so they are answered somewhat better than others: "
    "what is fitted on them may be too sure"
)


def people_weights(subjects: np.ndarray) -> np.ndarray:
    """Return the weight of every scan: one over the scans of its person, shape (n,)."""
    _, owner, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[owner])


def _each_alone(labels: np.ndarray, subjects: np.ndarray | None) -> np.ndarray:
    return np.arange(len(labels)) if subjects is None else subjects


def fit_temperature(
    probabilities: np.ndarray, labels: np.ndarray, subjects: np.ndarray | None = None
) -> float:
    """Return the temperature that makes the validation log-loss smallest (Guo et al. 2017).

    The log-loss of a person is the mean over its scans, and the log of the temperature has a normal
    prior around 0 (sd 0.5) that few people do not outweigh: where all answers are right, the
    log-loss alone would make the temperature 0. With fewer than ten people it is 1.

    Parameters
    ----------
    probabilities : ndarray, shape (n, C)
    labels : ndarray of int, shape (n,)
    subjects : ndarray, shape (n,), optional
        Whose scan it is; None: everybody has one.
    """
    from scipy.optimize import minimize_scalar

    weights = people_weights(_each_alone(labels, subjects))
    if weights.sum() < MIN_PEOPLE - 0.5:
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = apply_temperature(probabilities, float(np.exp(log_temperature)))
        losses = -np.log(np.clip(scaled[np.arange(len(labels)), labels], 1e-12, 1))
        return float(weights @ losses + log_temperature**2 / (2 * PRIOR_SD**2))

    end = np.log(MAX_TEMPERATURE)
    return float(np.exp(minimize_scalar(loss, bounds=(-end, end), method="bounded").x))


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
    probabilities: np.ndarray,
    labels: np.ndarray,
    accuracy: float = TARGET_ACCURACY,
    weights: np.ndarray | None = None,
) -> float:
    """Return the lowest confidence above which the answers reach ``accuracy``; inf if none does.

    Parameters
    ----------
    probabilities : ndarray, shape (n, C)
    labels : ndarray of int, shape (n,)
    accuracy : float
    weights : ndarray, shape (n,), optional
        Of the scans, see :func:`people_weights`.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    mass = (np.ones(len(labels)) if weights is None else weights)[order]
    right = (probabilities.argmax(axis=1) == labels)[order]
    enough = np.flatnonzero(np.cumsum(mass * right) / np.cumsum(mass) >= accuracy - 1e-12)
    return float(confidence[order[enough[-1]]]) if len(enough) else float("inf")


def conformal_threshold(
    probabilities: np.ndarray,
    labels: np.ndarray,
    alpha: float = ALPHA,
    method: str = "aps",
    subjects: np.ndarray | None = None,
) -> float:
    """Return the threshold of split conformal prediction, from the validation scans.

    ``lac``: one minus the label's probability (Sadinle et al. 2019); ``aps``: the probability mass
    of the classes ranked down to the label (Romano et al. 2020, arXiv 2006.02544, without
    randomisation, hence conservative). inf where there are too few people for the guarantee.
    """
    scores = _conformity(probabilities, method)[np.arange(len(labels)), labels]
    return conformal_quantile(scores, _each_alone(labels, subjects), alpha)


def conformal_quantile(scores: np.ndarray, subjects: np.ndarray, alpha: float = ALPHA) -> float:
    """Return the score that a scan of another person stays below in 1 - alpha, or inf.

    People are exchangeable, scans are not: each person has the mass 1 / (people + 1), spread over
    its scans, and the rest lies at inf (Lee, Barber and Willett 2023, arXiv 2306.06342).
    """
    order = np.argsort(scores, kind="stable")
    weights = people_weights(subjects)
    people = round(weights.sum())
    mass = np.cumsum(weights[order])
    enough = np.flatnonzero(mass >= (people + 1) * (1 - alpha) - 1e-9)
    return float(scores[order[enough[0]]]) if len(enough) else float("inf")


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
    probabilities: np.ndarray,
    labels: np.ndarray,
    n_bins: int = 10,
    weights: np.ndarray | None = None,
) -> list[dict[str, float]]:
    """Return confidence, accuracy and count of scans of every bin of confidence that has scans.

    Confidence and accuracy are means under ``weights`` (n,), of scans unless given.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    mass = np.ones(len(labels)) if weights is None else weights
    return [
        {
            "confidence": float(np.average(confidence[bins == b], weights=mass[bins == b])),
            "accuracy": float(np.average(right[bins == b], weights=mass[bins == b])),
            "count": int((bins == b).sum()),
        }
        for b in np.unique(bins)
    ]


def _about(weights: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    """Return how many scans and people it was fitted on, and what that does not allow."""
    people, needed = round(weights.sum()), int(np.ceil(1 / ALPHA)) - 1
    notes = [CHOSE_EPOCH]
    if people < MIN_PEOPLE:
        notes.append(f"{people} people are too few to fit on: the answers are left as they are")
    if people < needed:
        notes.append(f"{people} people are too few for {1 - ALPHA:.0%} of others: {needed} needed")
    return {
        "n_val": len(weights),
        "n_val_people": people,
        "n_people": round(others.sum()),
        "fitted": people >= MIN_PEOPLE,
        "val_chose_epoch": True,
        "notes": notes,
    }


def calibration_report(
    val: tuple[np.ndarray, np.ndarray],
    asked: tuple[np.ndarray, np.ndarray],
    people: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> tuple[dict[str, Any], np.ndarray]:
    """Return calibration before and after temperature scaling, abstention and prediction sets.

    Parameters
    ----------
    val, asked : (probabilities (n, C), labels (n,))
        What is fitted on, and what is read.
    people : (ndarray or None, ndarray or None)
        Whose scans these are; None: everybody has one.

    Returns
    -------
    report : dict
    answered : ndarray of bool, shape (n,)
        Where the model is sure enough to answer.
    """
    owners = [
        _each_alone(labels, who) for (_, labels), who in zip((val, asked), people, strict=True)
    ]
    val_weights, weights = (people_weights(who) for who in owners)
    temperature = fit_temperature(*val, owners[0])
    scaled_val = apply_temperature(val[0], temperature)
    scaled = apply_temperature(asked[0], temperature)
    labels = asked[1]
    threshold = abstention_threshold(scaled_val, val[1], weights=val_weights)
    answered = scaled.max(axis=1) >= threshold
    right = scaled.argmax(axis=1) == labels
    limit = conformal_threshold(scaled_val, val[1], subjects=owners[0])
    sets = prediction_sets(scaled, limit)
    coverage, accuracy = coverage_curve(scaled, labels)
    scores = {
        when: {
            name: round(float(metric(labels, p, p.argmax(1), weights[None])[0]), 6)
            for name, metric in (("ece", ece), ("brier", brier), ("log_loss", log_loss))
        }
        for when, p in (("before", asked[0]), ("after", scaled))
    }
    inside = sets[np.arange(len(labels)), labels]
    report = {
        "temperature": round(temperature, 4),
        **_about(val_weights, weights),
        **scores,
        "reliability": reliability(asked[0], labels, weights=weights),
        "reliability_after": reliability(scaled, labels, weights=weights),
        "abstention": {
            "target_accuracy": TARGET_ACCURACY,
            "threshold": None if np.isinf(threshold) else round(threshold, 4),
            "answered": int(answered.sum()),
            "not_sure": int((~answered).sum()),
            "accuracy": round(float(right[answered].mean()), 4) if answered.any() else None,
        },
        "prediction_sets": {
            "wanted_coverage": 1 - ALPHA,
            "coverage": round(float(np.average(inside, weights=weights)), 4),
            "mean_size": round(float(np.average(sets.sum(axis=1), weights=weights)), 4),
            "holds_all_answers": bool(np.isinf(limit)),
        },
        "coverage_curve": [
            [round(float(c), 4), round(float(a), 4)]
            for c, a in zip(coverage, accuracy, strict=True)
        ],
    }
    return report, answered


def value_report(
    val: tuple[np.ndarray, np.ndarray],
    asked: tuple[np.ndarray, np.ndarray],
    people: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what a line fitted on val does to predicted values, and 90% prediction intervals.

    The intervals are split conformal: as wide as the errors on val say (Lei et al. 2018,
    arXiv 1604.04173); empty where there are too few people in val for the guarantee.

    Parameters
    ----------
    val, asked : (predicted (n,), labels (n,))
    people : (ndarray or None, ndarray or None)
        Whose scans these are; None: everybody has one.

    Returns
    -------
    report : dict
    columns : dict of str to ndarray, shape (n,)
        ``value_low`` and ``value_high``.
    """
    owners = [
        _each_alone(labels, who) for (_, labels), who in zip((val, asked), people, strict=True)
    ]
    val_weights, weights = (people_weights(who) for who in owners)
    about = _about(val_weights, weights)
    slope, intercept = _line(*val, val_weights) if about["fitted"] else (1.0, 0.0)
    half = conformal_quantile(np.abs(val[0] - val[1]), owners[0])
    errors = np.abs(asked[0] - asked[1])
    line_errors = np.abs(slope * asked[0] + intercept - asked[1])
    known = np.isfinite(half)
    inside = float(np.average(errors <= half, weights=weights))
    report = {
        **about,
        "slope": round(slope, 4),
        "intercept": round(intercept, 4),
        "mae_before": round(float(np.average(errors, weights=weights)), 4),
        "mae_after": round(float(np.average(line_errors, weights=weights)), 4),
        "intervals": {
            "wanted_coverage": 1 - ALPHA,
            "half_width": round(half, 4) if known else None,
            "coverage": round(inside, 4) if known else None,
        },
    }
    edge = half if known else float("nan")
    return report, {"value_low": asked[0] - edge, "value_high": asked[0] + edge}


def _line(values: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept of the weighted least-squares line through predicted values."""
    middle, centre = (float(np.average(v, weights=weights)) for v in (values, labels))
    spread = float(weights @ (values - middle) ** 2)
    slope = float(weights @ ((values - middle) * (labels - centre)) / spread) if spread > 0 else 0.0
    return slope, centre - slope * middle
