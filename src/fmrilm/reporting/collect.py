"""What a run folder and its ancestors hold for the report: logs, scores, texts."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.evaluation.results import EVALUATE_AGAIN, TaskResult, read_results
from fmrilm.evaluation.runs import Run, find_parent, open_cohorts, open_run
from fmrilm.files import check_seal
from fmrilm.readers import RESTORE, check_types, read_file, read_json_lines, reading

NOT_LOSSES = ("epoch", "step", "split", "lr", "seconds")
STAGE_TITLES = {
    "tokenizer": "Stage 1 · tokenizer",
    "align": "Stage 2 · alignment with language",
    "instruct": "Stage 3 · instruction tuning",
}
Curves = dict[str, dict[str, list[tuple[float, float]]]]


@dataclass(frozen=True)
class Stage:
    """One run of the chain with its log."""

    run: Run
    rows: list[dict[str, Any]]

    @property
    def title(self) -> str:
        """Which stage it is, in words."""
        return STAGE_TITLES.get(self.run.stage, self.run.stage)

    @property
    def curves(self) -> Curves:
        """Loss name -> split -> (epoch, value) pairs, ``loss`` first."""
        found: Curves = defaultdict(lambda: defaultdict(list))
        for row in self.rows:
            for name, value in row.items():
                if name not in NOT_LOSSES and isinstance(value, int | float):
                    found[name][str(row["split"])].append((float(row["epoch"]), float(value)))
        order = sorted(found, key=lambda name: (name != "loss", not name.endswith("loss"), name))
        return {name: dict(found[name]) for name in order}

    @property
    def best_epoch(self) -> int:
        """Epoch with the lowest validation loss, which is the one exported; 0 if there is none."""
        if not self.run.config.train.select_best:
            return int(max((row["epoch"] for row in self.rows), default=0))
        rows = [row for row in self.rows if row["split"] == "val" and "loss" in row]
        return int(min(rows, key=lambda row: row["loss"])["epoch"]) if rows else 0

    @property
    def seconds(self) -> float:
        """Time the training took, by its log."""
        return float(sum(row.get("seconds", 0) for row in self.rows if row["split"] == "train"))


@dataclass(frozen=True)
class Chain:
    """A run with the runs it started from, and what was found when it was evaluated."""

    run: Run
    stages: list[Stage]  # first stage first
    cohorts: list[Cohort]
    results: list[TaskResult] = field(default_factory=list)
    generations: list[dict[str, Any]] = field(default_factory=list)
    descriptions: list[dict[str, Any]] = field(default_factory=list)
    missing_parent: str = ""

    @property
    def name(self) -> str:
        """Folder name of the run."""
        return self.run.folder.resolve().name

    @property
    def synthetic(self) -> bool:
        """Whether any cohort of the run is made up."""
        return any(cohort.info.synthetic for cohort in self.cohorts)

    @property
    def tokenizer_folder(self) -> Path:
        """Where the fMRI tokenizer of the run lies."""
        folder = self.run.folder / "model"
        return folder if self.run.stage == "tokenizer" else folder / "tokenizer"


def collect(folder: str | Path) -> Chain:
    """Return everything the report shows of a run.

    Parameters
    ----------
    folder : path
        A run folder; ``evaluation/`` in it is shown if it is there.

    Raises
    ------
    FileNotFoundError
        If it is not a run folder, or a cohort it was trained on is gone.
    """
    run = open_run(folder)
    stages, current, missing = [], run, ""
    while True:
        stages.append(Stage(current, _read_log(current.folder / "log.jsonl")))
        parent = find_parent(current)
        if parent is None:
            missing = str(current.lineage.get("parent") or "")
            break
        current = parent
    evaluated = run.folder / "evaluation"
    has_results = (evaluated / "metrics.json").is_file()
    return Chain(
        run,
        stages[::-1],
        open_cohorts(run),
        read_results(evaluated) if has_results else [],
        _read_json(evaluated / "generations.json"),
        _read_json(evaluated / "descriptions.json"),
        missing,
    )


def _read_json(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    check_seal(path.parent, EVALUATE_AGAIN)
    with reading(path, EVALUATE_AGAIN):
        return list(json.loads(read_file(path, EVALUATE_AGAIN)))


def _read_log(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = read_json_lines(path)
    for row in rows:
        check_types(row, {"epoch": int, "split": str}, path)
        check_types(row, dict.fromkeys(row.keys() - {"split"}, (int, float)), path)
        counted = [key for key in NOT_LOSSES if key in row and key != "split"]
        if not all(math.isfinite(row[key]) for key in counted):
            raise InputError(f"{path}: {', '.join(counted)} are not all finite: {RESTORE}")
    return rows
