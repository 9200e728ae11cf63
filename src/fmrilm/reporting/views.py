"""From results to what the page's template fills in: strings, positions, charts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from fmrilm.evaluation.intervals import Estimate, subject_weights
from fmrilm.evaluation.metrics import PRIMARY, UNPARSED, confusion
from fmrilm.evaluation.results import BASELINE, CONTROL, MODEL, TaskResult, probabilities_of
from fmrilm.evaluation.table import interval_note, say
from fmrilm.reporting import charts
from fmrilm.reporting.collect import Chain, Stage
from fmrilm.reporting.scans import group_connectivity, rebuild
from fmrilm.reporting.svg import Line

if TYPE_CHECKING:
    from fmrilm.data.cohort import Cohort

BAND_RESAMPLES = 300
STYLES = ("model", "other", "warm", "faint")  # line styles of the style sheet
AXIS = (0.3, 1.0)  # of the interval plot; widened where a score lies below


def run_view(chain: Chain) -> dict[str, Any]:
    """Return name, provenance, learning curves and generations of a run."""
    lineage = chain.run.lineage
    config = (chain.run.folder / "config.yaml").read_text(encoding="utf-8")
    return {
        "name": chain.name,
        "folder": chain.run.folder.name,
        "stage": chain.run.stage,
        "synthetic": chain.synthetic,
        "created": str(lineage.get("created", ""))[:16].replace("T", " "),
        "code_version": str(lineage.get("code_version", "unknown")),
        "stages": [stage_view(stage) for stage in chain.stages],
        "missing_parent": chain.missing_parent,
        "texts": join_stages(chain.generations),
        "config": config,
        "model": model_facts(chain),
    }


def join_stages(generations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry per described scan, with the texts of every stage in ``models``."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for entry in generations:
        key = (entry["cohort"], entry["subject_id"], entry["session_id"])
        place = found.setdefault(key, {**entry, "models": []})
        place["models"].insert(0, (entry["stage"], entry["generated"]))  # earlier stage first
    return list(found.values())


def model_facts(chain: Chain) -> list[tuple[str, str]]:
    """Return the few lines of the configuration that a reader asks for first."""
    vq, lm = chain.run.config.model.vq_model, chain.run.config.model.lm
    width, depth, heads = vq.size
    codes = f"{vq.codebook_size} codes" if vq.quantizer == "vq" else str(vq.fsq_levels)
    return [
        ("input", f"{vq.num_rois} regions x {vq.num_timestamp} time points"),
        ("tokens", f"{vq.num_tokens} per scan, {vq.patch_size} time points each"),
        ("encoder", f"{vq.enc_cls}: {depth} layers, width {width}, {heads} heads"),
        ("quantizer", f"{vq.quantizer}, {codes}"),
        ("language model", f"{lm.base_model}; reads {lm.fmri_input} features"),
        ("seed", str(chain.run.config.train.seed)),
    ]


def stage_view(stage: Stage) -> dict[str, Any]:
    """Return title, duration and learning curves of one stage."""
    train = stage.run.config.train
    best = stage.best_epoch
    return {
        "title": stage.title,
        "name": stage.run.folder.name,
        "created": str(stage.run.lineage.get("created", ""))[:16].replace("T", " "),
        "epochs": int(max((row["epoch"] for row in stage.rows), default=0)),
        "best": best,
        "duration": duration(stage.seconds),
        "lr": train.lr,
        "batch": train.batch_size * train.gradient_accumulation_steps,
        "charts": [
            {"name": name.replace("_", " "), "svg": Markup(charts.loss_chart(name, curves, best))}
            for name, curves in stage.curves.items()
        ],
        "cohorts": {
            name: known.get("fingerprint", "")
            for name, known in stage.run.lineage["cohorts"].items()
        },
    }


def duration(seconds: float) -> str:
    """Return "1 h 05 min", "3 min 20 s" or "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


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


def cohort_view(cohort: Cohort) -> dict[str, Any]:
    """Return what is known of a cohort, and its group connectivity."""
    group = group_connectivity(cohort)
    limit = float(np.nanquantile(np.abs(group.matrix), 0.98))
    table = cohort.table
    splits = {
        name: (int((table["split"] == name).sum()), part["subject_id"].nunique())
        for name in ("train", "val", "test")
        for part in [table[table["split"] == name]]
    }
    shape = cohort.store.shape(0)
    return {
        "name": cohort.name,
        "synthetic": cohort.info.synthetic,
        "source": cohort.info.source or cohort.store.source or "not stated",
        "splits": splits,
        "shape": shape,
        "t_r": cohort.store.t_r or cohort.info.t_r,
        "atlas": cohort.store.atlas or cohort.atlas.name,
        "norm": cohort.scaler.norm,
        "connectivity": Markup(
            charts.connectivity_chart(group.matrix, group.groups, max(round(limit, 2), 0.01))
        ),
        "n_units": group.n_units,
        "unit": group.unit,
    }


def tokenizer_view(cohort: Cohort, tokenizer: Any) -> dict[str, Any]:
    """Return codebook use and reconstructions of a cohort's validation scans."""
    found = rebuild(cohort, tokenizer)
    step = cohort.store.t_r or cohort.info.t_r
    time = np.arange(tokenizer.config.num_timestamp) * step
    return {
        "usage": Markup(charts.usage_chart(found.counts)),
        "used": int((found.counts > 0).sum()),
        "size": len(found.counts),
        "perplexity": found.perplexity,
        "n_tokens": int(found.counts.sum()),
        "n_scans": found.n_scans,
        "correlation": float(np.nanmedian(found.correlations)),
        "explained": found.explained,
        "subject": found.subject,
        "examples": [
            {
                "quantile": name,
                "region": region,
                "r": r,
                "svg": Markup(charts.series_chart(time, original, rebuilt)),
            }
            for name, region, r, original, rebuilt in found.examples
        ],
    }
