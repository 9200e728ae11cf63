"""What an evaluation found, and the files it is kept in."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.errors import InputError
from fmrilm.files import check_seal, plain_cells
from fmrilm.readers import read_json, read_table, reading
from fmrilm.stats.intervals import Estimate
from fmrilm.stats.kinds import KINDS, Kind, probability_columns

EVALUATE_AGAIN = "run `fmrilm evaluate` again"
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
    smallest_p : float
        That the number of people, or of exchanges, allows.
    """

    role: str
    title: str
    metrics: dict[str, Estimate]
    difference: dict[str, Estimate] = field(default_factory=dict)
    p_value: float = float("nan")
    test: str = ""
    smallest_p: float = 0.0

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
            found["test"] = {
                "p_value": p_value,
                "smallest_p": round(self.smallest_p, 6),
                "method": self.test,
            }
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
            values["role"],
            values["title"],
            metrics,
            difference,
            p_value,
            test.get("method", ""),
            float(test.get("smallest_p", 0.0)),
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
    answered_by: str = "words"  # or head, or words per token
    left_out: dict[str, str] = field(default_factory=dict)  # rows that are not there -> why
    scrutiny: dict[str, Any] = field(default_factory=dict)  # calibration, confounds, wordings
    readings: dict[str, Any] = field(default_factory=dict)  # of these test people, see Readings.of
    caveat: str = ""  # what else may carry the answers, as the cohort says
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


def write_results(
    folder: Path, run: str, results: list[TaskResult], made_from: dict[str, Any] | None = None
) -> None:
    """Write ``metrics.json``, ``controls.json``, ``predictions.csv`` and ``comparison.csv``.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    run : str
        The run folder, as it was given.
    results : list of TaskResult
    made_from : dict, optional
        Hashes of all that the results depend on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {
        "run": run,
        "made_from": made_from or {},
        "results": [result.to_dict() for result in results],
    }
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
        rows = pd.concat(tables, ignore_index=True)
        plain_cells(rows).to_csv(folder / name, index=False, float_format="%.6f")


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
    InputError
        If it was written by an older version.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: run `fmrilm evaluate` on the run first")
    content = read_json(path, EVALUATE_AGAIN)
    with reading(path, EVALUATE_AGAIN):
        if any("reads_scan" not in values["verdict"] for values in content["results"]):
            raise InputError(f"{path} was written by an older version: {EVALUATE_AGAIN}")
    check_seal(folder, EVALUATE_AGAIN)
    ids = {"subject_id": str, "session_id": str, "label": str}
    predictions, compared = (
        read_table(folder / name, ",", ("cohort", "task"), EVALUATE_AGAIN, dtype=ids)
        for name in ("predictions.csv", "comparison.csv")
    )
    results = []
    for values in content["results"]:
        with reading(path, EVALUATE_AGAIN):
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
