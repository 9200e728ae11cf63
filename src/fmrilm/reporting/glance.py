"""The verdict of every task in plain words: does the model read the scan, does it beat plain ones?

What stands first on a benchmark page. Nothing is computed here that is not in ``metrics.json``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fmrilm.evaluation.results import BASELINE, Predictor, TaskResult
from fmrilm.evaluation.table import say
from fmrilm.evaluation.verdict import best_baseline as name_of_best
from fmrilm.reporting.svg import ticks
from fmrilm.stats.intervals import Estimate
from fmrilm.stats.kinds import KINDS, Kind

CLASSES = KINDS["classes"]
AXES = {"auc": (0.3, 1.0), "r": (-0.4, 1.0)}  # of the small plots, by primary score
EXPLAINED = {  # what a control takes away
    "text only": "the scan is left out",
    "shuffled scan": "another person's scan, same site",
    "zero scan": "every region constantly zero",
    "tokens swapped": "another person's tokens, its own summary",
    "summary swapped": "its own tokens, another person's summary",
    "phases randomised": "spectra stay, timing and connectivity go",
    "cohort sentence only": "the question and where the data are from",
}
GOOD, BAD, UNKNOWN = "good", "bad", "unknown"


def glance(result: TaskResult) -> dict[str, Any]:
    """Return a row of the verdict table: names, chips, a small plot, one paragraph."""
    model, kind = result.predictors["model"], result.style
    best = best_baseline(result)
    shuffled = result.predictors.get("shuffled")
    marks = [("control", shuffled), ("baseline", best), ("model", model)]  # the model on top
    found = [(role, predictor) for role, predictor in marks if predictor is not None]
    chips = (scan_chip(result), tokens_chip(result), baseline_chip(best, kind))
    return {
        "cohort": result.cohort,
        "task": result.task,
        "synthetic": result.synthetic,
        "n_subjects": result.n_subjects,
        "score": model.metrics[kind.primary],
        "best": best,
        "best_score": None if best is None else best.metrics[kind.primary],
        "chips": [chip for chip in chips if chip],
        "marks": [mark(role, predictor, kind) for role, predictor in found],
        "words": paragraph(result),
        "warnings": len(result.scrutiny.get("warnings", [])),
    }


def verdict_tables(sections: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the verdict tables of a page: one per primary score, as scores share no axis.

    Parameters
    ----------
    sections : iterable of dict
        With the ``kind`` of their answers, an entry of KINDS.
    """
    found: dict[str, dict[str, Any]] = {}
    for section in sections:
        kind = KINDS[section["kind"]]
        low, high = axis = AXES[kind.primary]
        empty = {
            "score_name": kind.primary_title,
            "is_number": kind.is_number,
            "chance": place(kind.chance, axis),
            "ticks": [(place(tick, axis), f"{tick:.1f}") for tick in ticks(low, high, 7)],
            "sections": [],
        }
        found.setdefault(kind.primary, empty)["sections"].append(section)
    return [found[primary] for primary in AXES if primary in found]


def best_baseline(result: TaskResult) -> Predictor | None:
    """Return the baseline with the highest score on the evaluated scans; None if there is none."""
    name = name_of_best(result.predictors, result.style)
    return None if name is None else result.predictors[name]


def scan_chip(result: TaskResult) -> tuple[str, str]:
    """Return style and words for what the scan is worth."""
    adds = result.verdict["scan_adds"]
    if adds is None:
        return UNKNOWN, "worth of the scan unknown"
    return (GOOD, "reads the scan") if adds else (BAD, "no use of the scan shown")


def tokens_chip(result: TaskResult) -> tuple[str, str] | None:
    """Return style and words for what the tokens add to the summary; None without a summary."""
    adds = result.verdict["tokens_add"]["holds"]
    if adds is None:
        return None
    return (GOOD, "tokens add") if adds else (UNKNOWN, "no gain by its tokens shown")


def baseline_chip(best: Predictor | None, kind: Kind = CLASSES) -> tuple[str, str] | None:
    """Return style and words for the model against the best plain one."""
    gain = None if best is None else best.difference.get(kind.primary)
    if gain is None or math.isnan(gain.low):
        return None
    if gain.low > 0:
        return GOOD, "beats every plain model"
    return (BAD, "below a plain model") if gain.high < 0 else (UNKNOWN, "level with a plain model")


def paragraph(result: TaskResult) -> list[str]:
    """Return the verdict as sentences."""
    kind = result.style
    model = result.predictors["model"].metrics[kind.primary]
    if math.isnan(model.value):
        return [f"No score: {model.reason}."]
    people = f"{result.n_scans} scans of {result.n_subjects} people it was not trained on"
    found = [f"Asked about {people}, the model has an {kind.primary_title} of {say(model)}."]
    found += [*_scan_sentence(result), *_tokens_sentence(result), *_baseline_sentence(result)]
    return [*found, *_phase_sentence(result)]


def _scan_sentence(result: TaskResult) -> list[str]:
    shuffled, silent = (result.predictors.get(name) for name in ("shuffled", "text_only"))
    if shuffled is None or silent is None:
        return []
    swapped, without = (found.metrics[result.style.primary] for found in (shuffled, silent))
    numbers = (
        f"with another person's scan it has {swapped.value:.3f}, "
        f"without any scan {without.value:.3f}"
    )
    adds = result.verdict["scan_adds"]
    start = {
        True: "It reads the scan",
        False: "That it reads the scan cannot be shown",
        None: "Whether it reads the scan cannot be said",
    }[adds]
    return [f"{start}: {numbers}."]


def _tokens_sentence(result: TaskResult) -> list[str]:
    told = [result.verdict["tokens_add"]["text"], result.verdict["carried_by"]]
    return [f"{text[0].upper()}{text[1:]}." for text in told if text]


def _baseline_sentence(result: TaskResult) -> list[str]:
    best, primary = best_baseline(result), result.style.primary
    gain = None if best is None else best.difference.get(primary)
    if best is None or gain is None:
        return []
    count = len(result.of_role(BASELINE))
    title = f"{best.title[0].upper()}{best.title[1:]}, the best of {count} plain models here,"
    reached = f"has {best.metrics[primary].value:.3f}"
    if math.isnan(gain.low):
        return [f"{title} {reached}."]
    shown = f"{abs(gain.value):.3f} [{_size(gain)}]"
    if gain.low > 0:
        return [f"{title} {reached}: the model is better by {shown}."]
    if gain.high < 0:
        return [f"{title} {reached}: the model is worse by {shown}."]
    return [f"{title} {reached}: no clear difference ({say(gain, signed=True)})."]


def _size(gain: Estimate) -> str:
    low, high = sorted((abs(gain.low), abs(gain.high)))
    return f"{low:.2f}, {high:.2f}"


def _phase_sentence(result: TaskResult) -> list[str]:
    phase, kind = result.predictors.get("phase"), result.style
    model = result.predictors["model"].metrics[kind.primary]
    if phase is None or not result.verdict["scan_adds"]:
        return []
    score = phase.metrics[kind.primary]
    kept = (score.value - kind.chance) / max(model.value - kind.chance, 1e-9)
    start = f"With every region's phases drawn anew it has {score.value:.3f}"
    if kept > 0.5:
        rest = "most of what it uses is in the mean and spectrum of single regions"
    elif kept > 0.2:
        rest = "part of what it uses is in the mean and spectrum of single regions"
    else:
        rest = "what it uses is in how regions go together in time"
    return [f"{start}: {rest}."]


def mark(role: str, predictor: Predictor, kind: Kind) -> dict[str, Any]:
    """Return where a score and its interval stand on the small plot, in percent of its width."""
    score, axis = predictor.metrics[kind.primary], AXES[kind.primary]
    low, high = (None if math.isnan(v) else place(v, axis) for v in (score.low, score.high))
    return {
        "role": role,
        "title": f"{predictor.title} {say(score)}",
        "dot": None if math.isnan(score.value) else place(score.value, axis),
        "bar": None if low is None or high is None else (low, round(high - low, 2)),
    }


def place(value: float, axis: tuple[float, float] = AXES[CLASSES.primary]) -> float:
    """Return the position of a score on the axis, in percent, held inside it."""
    low, high = axis
    return round(100 * (min(max(value, low), high) - low) / (high - low), 2)
