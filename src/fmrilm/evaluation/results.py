"""What an evaluation found, and the files it is kept in."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.evaluation.intervals import Estimate
from fmrilm.evaluation.kinds import KINDS, Kind, probability_columns

MODEL, BASELINE, CONTROL = "model", "baseline", "control"


@dataclass(frozen=True)
class Predictor:
    """Scores of the model, a baseline or a control on one question.

    Attributes
    ----------
    role : str
        ``model``, ``baseline`` or ``control``.
    metrics : dict of str to Estimate
    difference : dict of str to Estimate
        Score of the model minus this one's, paired; empty for the model itself.
    p_value : float
        Of the paired test of the two primary scores, two-sided; nan where there is none.
    test : str
        Which test that is.
    """

    role: str
    title: str
    metrics: dict[str, Estimate]
    difference: dict[str, Estimate] = field(default_factory=dict)
    p_value: float = float("nan")
    test: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into JSON."""
        found: dict[str, Any] = {
            "role": self.role,
            "title": self.title,
            "metrics": {name: estimate.to_dict() for name, estimate in self.metrics.items()},
        }
        if self.difference:
            found["model_minus_this"] = {
                name: estimate.to_dict() for name, estimate in self.difference.items()
            }
        if self.test:
            p_value = None if math.isnan(self.p_value) else round(self.p_value, 6)
            found["test"] = {"p_value": p_value, "method": self.test}
        return found

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Predictor:
        """Read what :meth:`to_dict` wrote."""
        metrics, difference = (
            {name: Estimate.from_dict(found) for name, found in values.get(key, {}).items()}
            for key in ("metrics", "model_minus_this")
        )
        test = values.get("test", {})
        p_value = test.get("p_value")
        p_value = float("nan") if p_value is None else float(p_value)
        return cls(
            values["role"], values["title"], metrics, difference, p_value, test.get("method", "")
        )


@dataclass(frozen=True)
class TaskResult:
    """One task on one cohort: counts, scores, verdict, and one row per scan."""

    cohort: str
    synthetic: bool
    source: str
    task: str
    kind: str  # of its answers, an entry of KINDS
    candidates: list[str]
    split: str
    n_scans: int
    n_subjects: int
    n_missing: int
    class_counts: dict[str, int]  # empty for a number
    labels: str  # what they are, in words
    predictors: dict[str, Predictor]
    verdict: dict[str, Any]
    free_text: dict[str, Any] | None
    answered_by: str = "words"  # or head
    scrutiny: dict[str, Any] = field(default_factory=dict)  # calibration, confounds, wordings
    predictions: pd.DataFrame = field(repr=False, default_factory=pd.DataFrame)
    compared: pd.DataFrame = field(repr=False, default_factory=pd.DataFrame)

    def of_role(self, role: str) -> dict[str, Predictor]:
        """Return the predictors of one role, in order."""
        return {name: found for name, found in self.predictors.items() if found.role == role}

    @property
    def style(self) -> Kind:
        """How the answers are scored and shown."""
        return KINDS[self.kind]

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into ``metrics.json``."""
        tables = ("predictors", "predictions", "compared")
        plain = [item.name for item in fields(self) if item.name not in tables]
        found = {name: getattr(self, name) for name in plain}
        found["predictors"] = {name: p.to_dict() for name, p in self.predictors.items()}
        return found

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TaskResult:
        """Read what :meth:`to_dict` wrote; the rows per scan stay empty."""
        predictors = {
            name: Predictor.from_dict(found) for name, found in values["predictors"].items()
        }
        return cls(**{**values, "predictors": predictors})


def write_results(folder: Path, run: str, results: list[TaskResult]) -> None:
    """Write ``metrics.json``, ``controls.json``, ``predictions.csv`` and ``comparison.csv``.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    run : str
        The run folder, as it was given.
    results : list of TaskResult
    """
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"run": run, "results": [result.to_dict() for result in results]}
    _write_json(folder / "metrics.json", metrics)
    controls = [
        {
            "cohort": result.cohort,
            "synthetic": result.synthetic,
            "task": result.task,
            "split": result.split,
            "controls": {n: p.to_dict() for n, p in result.of_role(CONTROL).items()},
            "verdict": result.verdict,
        }
        for result in results
    ]
    _write_json(folder / "controls.json", {"run": run, "results": controls})
    for name, tables in (
        ("predictions.csv", [result.predictions for result in results]),
        ("comparison.csv", [result.compared for result in results]),
    ):
        pd.concat(tables, ignore_index=True).to_csv(folder / name, index=False, float_format="%.6f")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(_to_json(content) + "\n", encoding="utf-8")


def print_json(content: Any) -> None:
    """Print content as JSON to standard output."""
    print(_to_json(content))


def _to_json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def read_results(folder: Path) -> list[TaskResult]:
    """Return the results that :func:`write_results` wrote, with their rows per scan.

    Raises
    ------
    FileNotFoundError
        If the folder holds no evaluation.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: run `fmrilm evaluate` on the run first")
    content = json.loads(path.read_text(encoding="utf-8"))
    ids = {"subject_id": str, "session_id": str, "label": str}
    predictions = pd.read_csv(folder / "predictions.csv", dtype=ids)
    compared = pd.read_csv(folder / "comparison.csv", dtype=ids)
    results = []
    for values in content["results"]:
        found = TaskResult.from_dict(values)
        tables = [
            table[(table["cohort"] == found.cohort) & (table["task"] == found.task)]
            for table in (predictions, compared)
        ]
        results.append(
            TaskResult(**{**found.__dict__, "predictions": tables[0], "compared": tables[1]})
        )
    return results


def probabilities_of(table: pd.DataFrame, candidates: list[str]) -> np.ndarray:
    """Return the candidates' probabilities in a table, shape (n, C)."""
    return table[probability_columns(candidates)].to_numpy(dtype=float)
