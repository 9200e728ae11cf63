"""Runs of one recipe that differ in nothing but the seed: mean, spread and interval of a score."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmrilm.config.schema import Config
from fmrilm.evaluation.results import TaskResult
from fmrilm.evaluation.runs import Run
from fmrilm.evaluation.table import say
from fmrilm.stats.intervals import Estimate
from fmrilm.stats.significance import over_seeds


@dataclass(frozen=True)
class SeedSummary:
    """The primary score of one task over training seeds.

    Attributes
    ----------
    estimate : Estimate
        Mean with a t interval over seeds. The test subjects are the same in all runs, so it says
        nothing of other subjects.
    gain : Estimate
        The same of the model minus the best baseline of each run.
    """

    cohort: str
    task: str
    metric: str
    runs: list[str]
    seeds: list[int]
    scores: list[float]
    sd: float
    estimate: Estimate
    gain: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return what goes into JSON."""
        numbers = {"sd": None if np.isnan(self.sd) else self.sd}
        numbers["scores"] = [None if np.isnan(s) else s for s in self.scores]  # type: ignore[assignment]
        estimates = {"estimate": self.estimate.to_dict(), "gain": self.gain.to_dict()}
        return {**vars(self), **numbers, **estimates}

    def line(self) -> str:
        """Return the summary in one line."""
        each = ", ".join(f"{score:.3f}" for score in self.scores)
        text = (
            f"{self.cohort} · {self.task} over {len(self.runs)} seeds: {self.metric} "
            f"{say(self.estimate)}, sd {self.sd:.3f} ({each})"
        )
        known = not np.isnan(self.gain.value)
        return f"{text}; over the best baseline {say(self.gain, signed=True)}" if known else text


def recipe(config: Config) -> Config:
    """Return the configuration without its seed."""
    return dataclasses.replace(config, train=dataclasses.replace(config.train, seed=0))


def summarise_seeds(found: Sequence[tuple[Run, list[TaskResult]]]) -> list[SeedSummary]:
    """Return one summary per recipe, cohort and task that several runs share.

    Parameters
    ----------
    found : sequence of (Run, results)
        Runs of the same configuration but for ``train.seed`` are one recipe.
    """
    recipes: list[tuple[Config, list[tuple[Run, list[TaskResult]]]]] = []
    for run, results in found:
        key = recipe(run.config)
        same = next((members for other, members in recipes if other == key), None)
        if same is None:
            recipes.append((key, [(run, results)]))
        else:
            same.append((run, results))
    summaries = []
    for _, members in recipes:
        by_task: dict[tuple[str, str], list[tuple[Run, TaskResult]]] = {}
        for run, results in members:
            for result in results:
                by_task.setdefault((result.cohort, result.task), []).append((run, result))
        summaries += [_summary(pairs) for pairs in by_task.values() if len(pairs) > 1]
    return summaries


def _summary(pairs: list[tuple[Run, TaskResult]]) -> SeedSummary:
    first = pairs[0][1]
    primary = first.style.primary
    scores = [result.predictors["model"].metrics[primary].value for _, result in pairs]
    gains = [
        score - _best_baseline(r, primary) for score, (_, r) in zip(scores, pairs, strict=True)
    ]
    return SeedSummary(
        first.cohort,
        first.task,
        first.style.primary_title,
        [str(run.folder) for run, _ in pairs],
        [run.config.train.seed for run, _ in pairs],
        scores,
        float(np.std(scores, ddof=1)),
        over_seeds(np.array(scores)),
        over_seeds(np.array(gains)),
    )


def _best_baseline(result: TaskResult, primary: str) -> float:
    values = [found.metrics[primary].value for found in result.of_role("baseline").values()]
    return max((value for value in values if not np.isnan(value)), default=float("nan"))
