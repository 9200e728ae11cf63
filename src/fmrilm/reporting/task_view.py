"""One task as the page shows it: interval plot, ROC, answers, calibration, confounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from markupsafe import Markup

from fmrilm.evaluation.intervals import Estimate, subject_weights
from fmrilm.evaluation.metrics import PRIMARY, UNPARSED, confusion
from fmrilm.evaluation.results import BASELINE, CONTROL, MODEL, TaskResult, probabilities_of
from fmrilm.evaluation.table import interval_note, say, say_p
from fmrilm.reporting import charts
from fmrilm.reporting.svg import Line

BAND_RESAMPLES = 300
STYLES = ("model", "other", "warm", "faint")  # line styles of the style sheet
AXIS = (0.3, 1.0)  # of the interval plot; widened where a score lies below


def task_view(result: TaskResult) -> dict[str, Any]:
    """Return what is shown of one task: interval plot, ROC, confusion, verdict."""
    model = result.predictors["model"]
    values = [p.metrics[PRIMARY] for p in result.predictors.values()]
    known = [v for e in values for v in (e.value, e.low) if not math.isnan(v)]
    low = min(AXIS[0], math.floor(10 * min(known, default=AXIS[0])) / 10)
    baselines = result.of_role(BASELINE)
    best = max(baselines.values(), key=lambda p: _or_zero(p.metrics[PRIMARY].value), default=None)
    return {
        "cohort": result.cohort,
        "task": result.task,
        "synthetic": result.synthetic,
        "split": result.split,
        "n_scans": result.n_scans,
        "n_subjects": result.n_subjects,
        "n_missing": result.n_missing,
        "class_counts": result.class_counts,
        "auc": model.metrics[PRIMARY],
        "balanced": say(model.metrics["balanced_accuracy"]),
        "best_baseline": best,
        "verdict": result.verdict,
        "free_text": result.free_text,
        "note": interval_note([result]),
        "axis": [
            {"left": _share(t, low), "text": f"{t:.1f}"}
            for t in np.round(np.arange(low, 1.01, 0.1), 1)
        ],
        "chance": _share(0.5, low),
        "rows": [_row(p, low) for p in result.predictors.values()],
        "roc": Markup(roc_figure(result)),
        "roc_key": roc_key(result),
        "confusion": confusion_view(result),
        **scrutiny_view(result),
    }


def scrutiny_view(result: TaskResult) -> dict[str, Any]:
    """Return calibration, confounds and wordings, as far as they were looked at."""
    found = result.scrutiny
    calibration, confounds = found.get("calibration"), found.get("confounds")
    chart = ""
    if calibration:
        bins = calibration["reliability"], calibration["reliability_after"]
        chart = charts.reliability_chart(*bins, 1 / len(result.candidates))
    rows = []
    for name, kind in (confounds or {}).get("strata", {}).items():
        for group, score in kind["groups"].items():
            estimate = Estimate.from_dict({"value": None, **score})
            rows.append({"of": name, "group": group, "n": score["n_scans"], "auc": estimate})
    alone = {
        name: Estimate.from_dict(score)
        for name, score in (confounds or {}).get("predictability", {}).items()
    }
    residual = (confounds or {}).get("residualised", {})
    return {
        "calibration": calibration,
        "reliability": Markup(chart),
        "strata": rows,
        "alone": alone,
        "residual": Estimate.from_dict({"value": None, **residual}) if residual else None,
        "warnings": (confounds or {}).get("warnings", []),
        "wordings": found.get("wordings"),
    }


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _share(value: float, low: float) -> float:
    return round(100 * (value - low) / (AXIS[1] - low), 2)


def _row(predictor: Any, low: float) -> dict[str, Any]:
    auc: Estimate = predictor.metrics[PRIMARY]
    row = {
        "role": predictor.role,
        "title": predictor.title,
        "auc": auc,
        "balanced": predictor.metrics["balanced_accuracy"],
        "difference": predictor.difference.get(PRIMARY),
        "p": say_p(predictor.p_value),
        "dot": None if math.isnan(auc.value) else _share(auc.value, low),
        "bar": None,
    }
    if not math.isnan(auc.low):
        row["bar"] = (_share(auc.low, low), round(100 * (auc.high - auc.low) / (1 - low), 2))
    return row


def roc_figure(result: TaskResult) -> str:
    """Return the ROC of model, baselines and shuffled scans; one against the rest for more classes.

    Empty where a class is missing.
    """
    table = result.predictions
    labels = table["answer"].map(result.candidates.index).to_numpy()
    if min(np.bincount(labels, minlength=len(result.candidates))) == 0:
        return ""
    subjects = table["subject_id"].to_numpy()
    probabilities = probabilities_of(table, result.candidates)
    if len(result.candidates) > 2:
        lines = []
        for index, name in enumerate(result.candidates):
            alarms, hits = charts.roc_points(labels == index, probabilities[:, index])
            style = STYLES[index % len(STYLES)]
            lines.append(Line(alarms.tolist(), hits.tolist(), style, f"{name} against the rest"))
        return charts.roc_chart(lines, None)
    positive = labels == 1
    alarms, hits = charts.roc_points(positive, probabilities[:, 1])
    lines = [Line(alarms.tolist(), hits.tolist(), "model", "fMRI-LM")]
    for name, found in result.predictors.items():
        if found.role == MODEL or (found.role == CONTROL and name != "shuffled"):
            continue
        rows = result.compared[result.compared["predictor"] == name]
        other = probabilities_of(rows, result.candidates)[:, 1]
        if np.ptp(other) == 0:
            continue
        alarms, hits = charts.roc_points(positive, other)
        style = "other" if found.role == BASELINE else "warm"
        lines.append(Line(alarms.tolist(), hits.tolist(), style, found.title))
    weights = np.concatenate(list(subject_weights(subjects, BAND_RESAMPLES)))
    return charts.roc_chart(lines, charts.roc_band(positive, probabilities[:, 1], weights))


def roc_key(result: TaskResult) -> list[tuple[str, str]]:
    """Return the line styles of :func:`roc_figure` and what they stand for."""
    if len(result.candidates) == 2:
        return [("model", "fMRI-LM, 95% band"), ("other", "baselines"), ("warm", "shuffled scan")]
    return [(STYLES[index % len(STYLES)], name) for index, name in enumerate(result.candidates)]


def confusion_view(result: TaskResult) -> dict[str, Any]:
    """Return counts and row shares of the model's answers; unparsed ones have their own column."""
    table, names = result.predictions, result.candidates
    labels = table["answer"].map(names.index).to_numpy()
    known = {name: index for index, name in enumerate(names)}
    predicted = np.array([known.get(name, UNPARSED) for name in table["predicted"]])
    [counts] = confusion(labels, predicted, np.ones((1, len(labels))), len(names)).astype(int)
    columns = [*names, "unparsed"] if counts[:, -1].any() else names
    totals = np.maximum(counts.sum(axis=1), 1)
    rows = [
        {
            "name": name,
            "cells": [
                {"count": int(counts[r, c]), "share": round(100 * counts[r, c] / totals[r])}
                for c in range(len(columns))
            ],
        }
        for r, name in enumerate(names)
    ]
    return {"columns": columns, "rows": rows}
