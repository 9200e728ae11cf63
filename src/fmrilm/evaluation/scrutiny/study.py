"""What plain models and a run's frozen features reach when splits, sites and sizes change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.cohort.cohort import Cohort
from fmrilm.evaluation.baselines.baselines import MODEL_TITLES, titles
from fmrilm.evaluation.baselines.covariates import design, known_covariates
from fmrilm.evaluation.baselines.features import SHORT, extract
from fmrilm.evaluation.questions import Question, prompts_for, select
from fmrilm.evaluation.runs import Run
from fmrilm.evaluation.scoring import Scorer
from fmrilm.evaluation.scrutiny.resplits import (
    Scans,
    learning_curve,
    leave_site_out,
    repeated_splits,
)
from fmrilm.evaluation.tokenizer.embedding import embed_rows
from fmrilm.stats.kinds import Kind
from fmrilm.tasks import Task

FROZEN = "frozen:"  # in front of a run's name, where its features are meant


def title_of(feature: str, kind: Kind) -> str:
    """Return what a feature of a study is called on a page."""
    if feature.startswith(FROZEN):
        return f"frozen tokens of {feature.removeprefix(FROZEN)} + {MODEL_TITLES[kind.plain]}"
    return titles(kind)[feature]


class Tokens:
    """Frozen encoder features of a run's scans, computed once per cohort for all its tasks."""

    def __init__(self, run: Run, batch_size: int = 32) -> None:
        self.run, self.batch_size = run, batch_size
        self.name = run.folder.resolve().name
        self._model: Any = None
        self._known: dict[tuple[Path, int], np.ndarray] = {}

    @property
    def saw_labels(self) -> bool:
        """Whether the encoder was trained on the labels of the training people."""
        return self.run.config.model.lm.tune_tokenizer

    def read(self, cohort: Cohort, rows: np.ndarray, prompt: str) -> np.ndarray:
        """Return all tokens of each scan in a row, shape (n, N * D)."""
        missing = np.array(
            [r for r in rows if (cohort.folder, int(r)) not in self._known], dtype=int
        )
        if len(missing):
            self._model = self._model or self.run.load_model()
            config = self.run.config
            points, length = config.model.vq_model.num_timestamp, config.data.length
            scorer = Scorer(self._model, cohort, points, self.batch_size, length=length)
            found = embed_rows(scorer, missing, prompt, "tokens")
            for row, values in zip(missing, found, strict=True):
                self._known[cohort.folder, int(row)] = values
        return np.stack([self._known[cohort.folder, int(row)] for row in rows])


@dataclass(frozen=True)
class Study:
    """One task of one cohort, read and ready to be refitted many times."""

    cohort: str
    synthetic: bool
    task: str
    scans: Scans
    curve_only: dict[str, np.ndarray]  # features that take part in the learning curve alone
    splits: tuple[np.ndarray, np.ndarray, np.ndarray]  # train, val and test of the runs
    repeats: int

    def run(self) -> dict[str, Any]:
        """Return repeated splits, sites left out and learning curves."""
        scans, train = self.scans, self.splits[0]
        with_all = replace(scans, features={**self.curve_only, **scans.features})
        return {
            "cohort": self.cohort,
            "synthetic": self.synthetic,
            "task": self.task,
            "kind": scans.kind.name,
            "n_people": len(np.unique(scans.subjects)),
            "n_train": len(np.unique(scans.subjects[train])),
            "repeats": repeated_splits(scans, self.repeats),
            "sites": leave_site_out(scans),
            "curves": learning_curve(with_all, self.splits),
        }


def prepare_study(
    cohort: Cohort, task: Task, tokens: Sequence[Tokens], repeats: int, length: int
) -> Study:
    """Return a study with the features of all labelled scans.

    Frozen features are of an encoder that saw the scans of its training people, not their labels;
    one that was trained on the labels (``tune_tokenizer``) takes part in the learning curve only,
    whose test people it never saw.

    Parameters
    ----------
    cohort : Cohort
    task : Task
    tokens : sequence of Tokens
        One per run.
    repeats : int
        Fresh splits by subject.
    length : int
        Time points of a scan that are used.
    """
    parts: list[Question] = [select(cohort, task, split) for split in ("train", "val", "test")]
    rows = np.concatenate([part.rows for part in parts])
    wanted = ["values", "region_means"] if length < SHORT else ["fc", "region_means"]
    features: dict[str, np.ndarray] = {}
    curve_only: dict[str, np.ndarray] = {}
    for one in tokens:
        place = curve_only if one.saw_labels else features
        prompt = prompts_for(parts[0], one.run.config)[0]
        place[FROZEN + one.name] = one.read(cohort, rows, prompt)
    features |= extract(cohort, rows, length, wanted)
    columns = known_covariates(parts[0])
    if columns:
        tables = [design(part, columns, parts[0].rows) for part in parts]
        features["covariates"] = np.concatenate(tables)
    labels, subjects, sites = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("labels", "subjects", "sites")
    )
    edges = np.cumsum([0, *(len(part.rows) for part in parts)])
    train, val, test = (np.arange(a, b) for a, b in pairwise(edges))
    return Study(
        cohort.name,
        cohort.info.synthetic,
        task.name,
        Scans(features, labels, subjects, sites, len(task.classes) or None),
        curve_only,
        (train, val, test),
        repeats,
    )
