"""One task as the page shows it: interval plot, ROC, answers, calibration, confounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from fmrilm.evaluation.results import BASELINE, CONTROL, MODEL, TaskResult, probabilities_of
from fmrilm.evaluation.table import interval_note, left_out_line, say, say_p, sentences, title
from fmrilm.reporting import charts
from fmrilm.reporting.glance import best_baseline
from fmrilm.reporting.svg import Line
from fmrilm.stats.classification import UNPARSED, confusion
from fmrilm.stats.intervals import Estimate, subject_weights

BAND_RESAMPLES = 300
STYLES = ("model", "other", "warm", "faint")  # line styles of the style sheet
TOP = 1.0  # end of the interval plot
MARGIN = 0.2  # how far below chance it begins, or further where a score lies lower


def task_view(result: TaskResult) -> dict[str, Any]:
    """Return what is shown of one task: interval plot, ROC or values, confusion, verdict."""
    model, kind = result.predictors["model"], result.style
    primary, second = list(kind.shown)[:2]
    values = [p.metrics[primary] for p in result.predictors.values()]
    known = [v for e in values for v in (e.value, e.low) if not math.isnan(v)]
    low = min(kind.chance - MARGIN, math.floor(10 * min(known, default=0.0)) / 10)
    best = best_baseline(result)
    step = 0.1 if TOP - low < 1 else 0.2
    marks = np.arange(math.ceil(round(low / step, 6)), round(TOP / step) + 1) * step
    return {
        "cohort": result.cohort,
        "task": result.task,
        "synthetic": result.synthetic,
        "split": result.split,
        "n_scans": result.n_scans,
        "n_subjects": result.n_subjects,
        "n_missing": result.n_missing,
        "class_counts": result.class_counts,
        "labels": result.labels,
        "score_name": kind.shown[primary],
        "second_name": kind.shown[second],
        "score": model.metrics[primary],
        "second": say(model.metrics[second]),
        "best_baseline": best,
        "best_score": None if best is None else best.metrics[primary],
        "verdict": result.verdict,
        "sentences": sentences(result),
        "left_out": left_out_line(result),
        "free_text": result.free_text,
        "note": interval_note([result]),
        "axis": [{"left": _share(t, low), "text": f"{t:.1f}"} for t in marks],
        "chance": _share(kind.chance, low),
        "rows": [_row(result, name, (primary, second), low) for name in result.predictors],
        **(value_view(result) if kind.is_number else class_view(result)),
        **scrutiny_view(result),
    }


def class_view(result: TaskResult) -> dict[str, Any]:
    """Return ROC, answers and reliability of a task with classes."""
    calibration = result.scrutiny.get("calibration")
    chart = ""
    if calibration:
        bins = calibration["reliability"], calibration["reliability_after"]
        chart = charts.reliability_chart(*bins, 1 / len(result.candidates))
    return {
        "roc": Markup(roc_figure(result)),
        "roc_key": roc_key(result),
        "confusion": confusion_view(result),
        "reliability": Markup(chart),
        "scatter": "",
    }


def value_view(result: TaskResult) -> dict[str, Any]:
    """Return the predicted values over the labels."""
    labels, values = (
        pd.to_numeric(result.predictions[name], errors="coerce").to_numpy(dtype=float)
        for name in ("answer", "value")
    )
    intervals = result.scrutiny.get("calibration", {}).get("intervals", {})
    chart = charts.value_chart(labels, values, intervals.get("half_width"))
    return {"roc": "", "roc_key": [], "confusion": None, "reliability": ""} | {
        "scatter": Markup(chart)
    }


def scrutiny_view(result: TaskResult) -> dict[str, Any]:
    """Return calibration, confounds and wordings, as far as they were looked at."""
    found = result.scrutiny
    confounds = found.get("confounds")
    rows = []
    for name, kind in (confounds or {}).get("strata", {}).items():
        for group, score in kind["groups"].items():
            estimate = Estimate.from_dict({"value": None, **score})
            rows.append({"of": name, "group": group, "n": score["n_scans"], "score": estimate})
    alone = {
        name: Estimate.from_dict(score)
        for name, score in (confounds or {}).get("predictability", {}).items()
    }
    residual = (confounds or {}).get("residualised", {})
    return {
        "calibration": found.get("calibration"),
        "strata": rows,
        "gaps": gap_rows(result),
        "alone": alone,
        "residual": Estimate.from_dict({"value": None, **residual}) if residual else None,
        "warnings": [*filter(None, [result.caveat]), *found.get("warnings", [])],
        "wordings": found.get("wordings"),
    }


def gap_rows(result: TaskResult) -> list[dict[str, Any]]:
    """Return the largest difference between groups of a kind, one row per metric."""
    titles = result.style.fairness
    return [
        {
            "of": of,
            "metric": titles[metric],
            "gap": Estimate.from_dict({name: gap.get(name) for name in ("value", "low", "high")}),
            "by_chance": gap["by_chance"],
        }
        for of, metrics in result.scrutiny.get("fairness", {}).items()
        for metric, gap in metrics.items()
        if gap["value"] is not None
    ]


def _share(value: float, low: float) -> float:
    return round(100 * (value - low) / (TOP - low), 2)


def _row(result: TaskResult, name: str, shown: tuple[str, str], low: float) -> dict[str, Any]:
    predictor = result.predictors[name]
    score: Estimate = predictor.metrics[shown[0]]
    row = {
        "role": predictor.role,
        "title": title(result, name),
        "score": score,
        "second": predictor.metrics[shown[1]],
        "difference": predictor.difference.get(shown[0]),
        "p": say_p(predictor.p_value, predictor.smallest_p),
        "dot": None if math.isnan(score.value) else _share(score.value, low),
        "bar": None,
    }
    if not math.isnan(score.low):
        row["bar"] = (_share(score.low, low), round(100 * (score.high - score.low) / (1 - low), 2))
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
