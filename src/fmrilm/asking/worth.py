"""What an answer is worth: the run's own held-out scores, calibration and controls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.lineage.card import METRICS
from fmrilm.readers import read_json
from fmrilm.stats.calibration import apply_temperature
from fmrilm.stats.kinds import kind_of
from fmrilm.tasks import Task

NEVER = "never evaluated: what it is worth is not known"


@dataclass(frozen=True)
class Worth:
    """The held-out result of one task.

    Attributes
    ----------
    text : str
        Score with its interval, on whom, and whether it beats its controls; one line.
    temperature : float
        Probabilities are calibrated by it; 1 where there was too little to fit one.
    threshold : float
        Answers less probable than this are "not sure"; 0 where it is not known.
    half_width : float or None
        Half the width of a number's 90% prediction interval (split conformal).
    """

    text: str = NEVER
    temperature: float = 1.0
    threshold: float = 0.0
    half_width: float | None = None

    def calibrate(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities (C,) after the temperature."""
        return apply_temperature(probabilities[None], self.temperature)[0]


def read_worth(run: Path, task: Task, cohort: str | None = None) -> Worth:
    """The worth of the answers to a task, from the evaluation of the run if there is one.

    Parameters
    ----------
    run : Path
    task : Task
    cohort : str, optional
        Taken first where several were evaluated.
    """
    path = run / METRICS
    if not path.is_file():
        return Worth(f"{NEVER} (run `fmrilm evaluate {run}`)")
    results = [r for r in read_json(path)["results"] if r["task"] == task.name]
    results.sort(key=lambda result: result["cohort"] != cohort)
    return _from_result(results[0], task) if results else Worth()


def _from_result(result: dict[str, Any], task: Task) -> Worth:
    kind = kind_of(task)
    score = result["predictors"]["model"]["metrics"].get(kind.primary, {})
    value, low, high = (score.get(key) for key in ("value", "low", "high"))
    parts = "no score" if value is None else f"{kind.primary_title} {value:.2f}"
    if low is not None and high is not None:
        parts += f" [{low:.2f}, {high:.2f}]"
    verdict = result["verdict"]
    reads = "reads the scan" if verdict["reads_scan"]["holds"] else "not shown to read the scan"
    plain = result["predictors"]
    best = _best_plain(plain, kind.primary)
    synthetic = "SYNTHETIC " if result["synthetic"] else ""
    text = (
        f"{parts} on {result['n_subjects']} held-out {synthetic}people of {result['cohort']}; "
        f"{reads}{best}"
    )
    calibration = result.get("scrutiny", {}).get("calibration", {})
    return Worth(
        text,
        float(calibration.get("temperature") or 1.0),
        float((calibration.get("abstention") or {}).get("threshold") or 0.0),
        (calibration.get("intervals") or {}).get("half_width"),
    )


def _best_plain(predictors: dict[str, Any], metric: str) -> str:
    rows = [
        (about["metrics"].get(metric, {}).get("value"), about["title"])
        for about in predictors.values()
        if about["role"] == "baseline"
    ]
    known = [(value, title) for value, title in rows if value is not None]
    if not known:
        return ""
    value, title = max(known)
    return f"; the best plain model ({title}) has {value:.2f}"
