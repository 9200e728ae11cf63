"""Runs of one recipe on the folds of one cohort: everybody is tested once, by a model new to them.

The answers are those in each run's ``predictions.csv`` and ``comparison.csv``; no model is asked
again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.datasets.folds import Fold, read_fold
from fmrilm.errors import InputError
from fmrilm.evaluation.options import EvaluationOptions
from fmrilm.evaluation.pooled.people import Member, answers_of, per_person, pool
from fmrilm.evaluation.pooled.seeds import recipe
from fmrilm.evaluation.results import Predictor, TaskResult
from fmrilm.evaluation.runs import Run
from fmrilm.evaluation.table import say, sentences
from fmrilm.files import plain_cells
from fmrilm.stats.intervals import Estimate
from fmrilm.stats.kinds import Kind
from fmrilm.tasks import TASKS


@dataclass(frozen=True)
class Row:
    """One predictor over all folds.

    Attributes
    ----------
    fold_scores : ndarray, shape (n_seeds, n_folds)
        Its primary score on the test people of each fold; nan where it is undefined.
    people : DataFrame
        ``subject_id``, ``fold``, ``seed``, ``n_scans`` and ``score``: the primary score within each
        person, nan where it is undefined (e.g. an AUC of a person with one class).
    """

    role: str
    title: str
    fold_scores: np.ndarray
    people: pd.DataFrame

    @property
    def by_seed(self) -> np.ndarray:
        """Mean over folds, one per training seed."""
        return self.fold_scores.mean(axis=1)

    @property
    def mean(self) -> float:
        """Mean over folds and seeds."""
        return float(self.fold_scores.mean())

    @property
    def sd_folds(self) -> float:
        """Spread over folds of the mean over seeds."""
        return _sd(self.fold_scores.mean(axis=0))

    @property
    def sd_seeds(self) -> float:
        """Spread over seeds of the mean over folds; nan for a single seed."""
        return _sd(self.by_seed)

    @property
    def per_person(self) -> pd.Series:
        """Score of each person, mean over seeds; people without one are left out."""
        return self.people.groupby("subject_id")["score"].mean().dropna()

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into JSON."""
        people = self.per_person
        return {
            "role": self.role,
            "title": self.title,
            "mean_over_folds": _number(self.mean),
            "sd_over_folds": _number(self.sd_folds),
            "sd_over_seeds": _number(self.sd_seeds),
            "fold_scores": [[_number(score) for score in one] for one in self.fold_scores],
            "per_person": {
                "n": len(people),
                "mean": _number(people.mean()),
                "lowest": _number(people.min()),
                "highest": _number(people.max()),
            },
        }


@dataclass(frozen=True)
class FoldSummary:
    """One task of one cohort over its folds.

    Attributes
    ----------
    rows : dict of str to Row
        The model, then every baseline and control that all runs have.
    pooled : dict of int to TaskResult
        Training seed -> the result on the people of all folds together, with its verdict.
    """

    cohort: str
    task: str
    metric: str
    runs: list[str]
    folds: list[int]
    of: int
    n_people: int
    n_scans: int
    rows: dict[str, Row]
    pooled: dict[int, TaskResult] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into JSON."""
        plain = ("rows", "pooled")
        found = {k: v for k, v in vars(self).items() if k not in plain}
        found["rows"] = {name: row.to_dict() for name, row in self.rows.items()}
        found["pooled"] = {str(seed): result.to_dict() for seed, result in self.pooled.items()}
        return found

    def lines(self) -> list[str]:
        """Return the summary as Markdown."""
        seeds = f"{len(self.pooled)} training seeds" if len(self.pooled) > 1 else ""
        first = next(iter(self.pooled.values()))
        tag = "SYNTHETIC " if first.synthetic else ""
        who = "test people"
        if self.of > 1:
            some = f"{len(self.folds)} of {self.of}" if len(self.folds) < self.of else "all"
            who = f"people, each tested once in {some} folds"
        over = ["mean over folds"] if self.of > 1 else ["mean over seeds"]
        over += [f"(sd over {'seeds' if seeds else 'folds'})"]
        pooled = "all people pooled" if self.of > 1 else "with interval over people"
        head = f"{self.metric}, {' '.join(over)}"
        names = ["", "predictor", head, pooled, "model minus this", "per person"]
        about = f"{self.n_people} {who}{', ' if seeds else ''}{seeds}, {self.n_scans} scans"
        lines = [
            f"### {tag}{self.cohort} · {self.task}: {about}",
            "",
            f"| {' | '.join(names)} |",
            "|" + "---|" * len(names),
        ]
        for name, row in self.rows.items():
            sd = row.sd_seeds if seeds else row.sd_folds
            predictors = [result.predictors[name] for result in self.pooled.values()]
            cells = [
                row.role if row.role != "model" else "",
                row.title,
                _mean_cell(row.mean, sd),
                _pooled_cell(predictors, first.style),
                _gain_cell(predictors, first.style),
                _range_cell(row.per_person),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        for seed, result in self.pooled.items():
            which = f"Seed {seed}: " if seeds else ""
            told = [f"{text[0].upper()}{text[1:]}." for _, text in sentences(result)]
            lines += ["", f"{which}{' '.join(told)}"]
        if first.caveat:
            lines += ["", f"**Mind:** {first.caveat}."]
        return lines


def _mean_cell(mean: float, sd: float) -> str:
    if np.isnan(mean):
        return "n/a in a fold"
    return f"{mean:.3f}" if np.isnan(sd) else f"{mean:.3f} ({sd:.3f})"


def _pooled_cell(pooled: list[Predictor], kind: Kind) -> str:
    estimates = [one.metrics[kind.primary] for one in pooled]
    return say(_mean(estimates))


def _gain_cell(pooled: list[Predictor], kind: Kind) -> str:
    gains = [one.difference[kind.primary] for one in pooled if one.difference]
    return say(_mean(gains), signed=True) if gains else ""


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean over training seeds of the scores and of the ends of their intervals."""
    values = np.array([[one.value, one.low, one.high] for one in estimates]).mean(axis=0)
    value, low, high = (float(one) for one in values)
    return Estimate(value, low, high, estimates[0].reason)


def _range_cell(people: pd.Series) -> str:
    if people.empty:
        return "n/a"
    return f"{people.mean():.3f}, from {people.min():.3f} to {people.max():.3f} ({len(people)})"


def summarise_folds(
    found: Sequence[tuple[Run, list[TaskResult]]], options: EvaluationOptions
) -> list[FoldSummary]:
    """Return one summary per recipe, cohort and task of which there are runs on several folds.

    Parameters
    ----------
    found : sequence of (Run, results)
        Runs of the same configuration but for the cohort folder and ``train.seed`` are one recipe.
    options : EvaluationOptions
        How the pooled answers are resampled.

    Raises
    ------
    InputError
        If a person was tested twice by the runs of one seed, or a seed lacks a fold of another.
    """
    groups: list[tuple[Any, list[Member]]] = []
    for run, results in found:
        config = recipe(run.config)
        data = dataclasses.replace(config.data, dataset_dir=[])
        config = dataclasses.replace(config, data=data)
        for result in results:
            place = run.lineage["cohorts"].get(result.cohort)
            fold = read_fold(Path(place["folder"])) if place else None
            if fold is None:
                continue
            key = (config, result.cohort, result.task, result.split, fold.table)
            same = next((members for other, members in groups if other == key), None)
            if same is None:
                groups.append((key, same := []))
            same.append(Member(run, result, fold))
    return [
        _summarise(members, options)
        for _, members in groups
        if len({member.fold.fold for member in members}) > 1
    ]


def summarise_split(
    found: Sequence[tuple[Run, list[TaskResult]]], options: EvaluationOptions
) -> list[FoldSummary]:
    """Return the same for runs of several training seeds on one split, as if it were one fold.

    Parameters
    ----------
    found : sequence of (Run, results)
        Runs that differ in ``train.seed`` only.
    options : EvaluationOptions
    """
    by_task: dict[tuple[str, str], list[Member]] = {}
    for run, results in found:
        for result in results:
            member = Member(run, result, Fold(0, 1, 0, ""))
            by_task.setdefault((result.cohort, result.task), []).append(member)
    return [_summarise(members, options) for members in by_task.values()]


def _summarise(members: list[Member], options: EvaluationOptions) -> FoldSummary:
    folds = sorted({member.fold.fold for member in members})
    seeds = sorted({member.seed for member in members})
    table: dict[int, list[Member]] = {}
    for seed in seeds:
        of_seed = sorted((m for m in members if m.seed == seed), key=lambda m: m.fold.fold)
        there = [member.fold.fold for member in of_seed]
        if there != folds:
            raise InputError(
                f"seed {seed} has runs of folds {there}, all seeds together of {folds}: give one "
                "run per fold and seed"
            )
        table[seed] = of_seed
    first = members[0].result
    names = [
        name
        for name in first.predictors
        if all(name in member.result.predictors for member in members)
    ]
    kind, task = first.style, TASKS[first.task]
    rows = {}
    for name in names:
        people = [
            per_person(member, answers_of(member.result, name, task), task)
            for of_seed in table.values()
            for member in of_seed
        ]
        scores = [
            [member.result.predictors[name].metrics[kind.primary].value for member in of_seed]
            for of_seed in table.values()
        ]
        about = first.predictors[name]
        rows[name] = Row(about.role, about.title, np.array(scores), pd.concat(people))
    pooled = {seed: pool(of_seed, names, task, options) for seed, of_seed in table.items()}
    result = pooled[seeds[0]]
    return FoldSummary(
        first.cohort,
        first.task,
        kind.primary_title,
        [str(member.run.folder) for member in members],
        folds,
        members[0].fold.of,
        result.n_subjects,
        result.n_scans,
        rows,
        pooled,
    )


def write_folds(folder: Path, summaries: Sequence[FoldSummary]) -> None:
    """Write ``folds.json``, ``folds.md`` and ``per_person.csv`` (one row per predictor and person).

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    summaries : sequence of FoldSummary
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = [summary.to_dict() for summary in summaries]
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "folds.json").write_text(text + "\n", encoding="utf-8")
    blocks = ["\n".join(summary.lines()) for summary in summaries]
    (folder / "folds.md").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    tables = []
    for summary in summaries:
        for name, row in summary.rows.items():
            about = {"cohort": summary.cohort, "task": summary.task, "predictor": name}
            tables.append(row.people.assign(**about, metric=summary.metric))
    order = ["cohort", "task", "predictor", "seed", "fold", "subject_id", "n_scans", "metric"]
    people = pd.concat(tables, ignore_index=True)[[*order, "score"]]
    plain_cells(people).to_csv(folder / "per_person.csv", index=False, float_format="%.6f")


def _sd(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
