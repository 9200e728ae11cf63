"""`fmrilm benchmark`: runs and plain models over cohorts, splits and training sizes on a page."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.evaluation.baselines.baselines import baseline_answers
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.questions import select, tasks_of
from fmrilm.evaluation.results import EVALUATE_AGAIN, TaskResult, read_results
from fmrilm.evaluation.resume import sources
from fmrilm.evaluation.runs import Run, open_cohorts, open_run
from fmrilm.evaluation.scrutiny.study import Study, Tokens, prepare_study
from fmrilm.jobs import workers
from fmrilm.readers import read_json
from fmrilm.reporting.glance import glance, verdict_tables
from fmrilm.reporting.report import render
from fmrilm.reporting.study_view import study_view
from fmrilm.reporting.task_view import task_view
from fmrilm.stats.intervals import Estimate
from fmrilm.tasks import Task

Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]  # of data.parallel


def benchmark(
    runs: list[str],
    *,
    output: str = "benchmark",
    datasets: str | None = None,
    baselines: str = "all",
    controls: str = "all",
    repeats: int = 5,
    batch_size: int = 32,
    jobs: int = 0,
    refresh: bool = True,
) -> Path:
    """Compare runs with plain models over cohorts, splits and training sizes, on one page.

    Each run is evaluated on the held-out subjects with all baselines and controls. Beside it the
    plain models are refitted on repeated splits by subject (corrected intervals), on all sites but
    one, and on fewer and fewer people, there also on the frozen features of the runs. Writes
    ``benchmark.html`` and ``benchmark.json`` into ``output``.

    Parameters
    ----------
    runs : list of str
        Run folders of stage align or instruct.
    output : str
        Folder of the page.
    datasets : str, optional
        As in `fmrilm evaluate`.
    baselines : str
        standard, all, none, or names.
    controls : str
        standard or all.
    repeats : int
        Fresh splits by subject.
    batch_size : int
        Scans scored at once.
    jobs : int
        Processes that fit plain models; 0: one per core.
    refresh : bool
        Evaluate anew; otherwise what lies in ``output`` is used where weights, scans, labels and
        options are the same.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If no run is given, or as in `fmrilm evaluate`.

    Examples
    --------
    fmrilm benchmark runs/instruct -o benchmark
    """
    if not runs:
        raise InputError("no run given: fmrilm benchmark RUN [RUN ...] -o benchmark")
    folder = Path(output)
    clock = Clock()
    opened = [open_run(given) for given in runs]
    asked = _asked(opened, datasets)
    jobs = min(jobs or _cores(), len(asked))
    if baselines != "none":
        with workers(jobs) as run_all:
            for _ in run_all(partial(Asked.fit_baselines, which=baselines), asked):
                pass
    clock.note("plain models")
    parts = []
    for given, run in zip(runs, opened, strict=True):
        scores = folder / run.folder.resolve().name
        options = {"baselines": baselines, "controls": controls}
        if refresh or not _is_current(scores, run, open_cohorts(run, datasets), options):
            evaluate(
                [given],
                output=str(scores),
                datasets=datasets,
                batch_size=batch_size,
                baselines=baselines,
                controls=controls,
                samples=0,
            )
        parts.append((run, scores))
    clock.note("evaluation")
    with workers(jobs) as run_all:
        studies = _studies(asked, repeats, batch_size, run_all)
    clock.note("splits, sites and sizes")
    results = [(run.folder.resolve().name, read_results(scores)) for run, scores in parts]
    shown = sections(results, studies)
    page = render(
        "benchmark.html",
        runs=[name for name, _ in results],
        tables=verdict_tables(shown),
        sections=shown,
        seconds=clock.seconds,
    )
    content = _plain({"seconds": clock.seconds, "studies": studies})
    (folder / "benchmark.json").write_text(
        json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    path = folder / "benchmark.html"
    path.write_text(page, encoding="utf-8")
    spent = ", ".join(f"{name} {value:.0f} s" for name, value in clock.seconds.items())
    print(f"benchmark in {path} ({spent})")
    return path


class Clock:
    """How long each part took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def note(self, name: str) -> None:
        """Say what was done since the last note."""
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


def _is_current(scores: Path, run: Run, cohorts: list[Cohort], options: dict[str, str]) -> bool:
    """Return whether results are there, of this model on these scans and labels."""
    path = scores / "metrics.json"
    if not path.is_file():
        return False
    made_from = read_json(path, EVALUATE_AGAIN).get("made_from", {})
    settings = made_from.pop("settings", {})
    same = all(settings.get(name) == value for name, value in options.items())
    return same and made_from == sources(run.folder / "model", cohorts)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it; nan becomes null."""
    if isinstance(value, Estimate):
        return value.to_dict()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True)
class Asked:
    """One task of one cohort, and the runs that are asked it."""

    cohort: Cohort
    task: Task
    runs: list[Run]

    @property
    def length(self) -> int:
        """Time points that are read, by the first run."""
        return self.runs[0].config.model.vq_model.num_timestamp

    def fit_baselines(self, which: str) -> None:
        """Leave the baselines' answers in the cohort's folder, where `evaluate` finds them."""
        question = select(self.cohort, self.task, "test")
        baseline_answers(question, self.length, which)


def _asked(runs: list[Run], datasets: str | None) -> list[Asked]:
    found: dict[tuple[str, str], Asked] = {}
    for run in runs:
        for cohort in open_cohorts(run, datasets):
            for task in tasks_of(cohort, run.config):
                one = found.setdefault((cohort.name, task.name), Asked(cohort, task, []))
                one.runs.append(run)
    return list(found.values())


def _studies(
    asked: list[Asked], repeats: int, batch_size: int, run_all: Mapper
) -> list[dict[str, Any]]:
    """Return repeated splits, sites left out and learning curves of every cohort and task."""
    tokens = {id(run): Tokens(run, batch_size) for one in asked for run in one.runs}
    prepared = (
        prepare_study(
            one.cohort, one.task, [tokens[id(run)] for run in one.runs], repeats, one.length
        )
        for one in asked
    )
    found = {(done["cohort"], done["task"]): done for done in run_all(Study.run, prepared)}
    return [found[one.cohort.name, one.task.name] for one in asked]


def sections(
    results: list[tuple[str, list[TaskResult]]], studies: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return one section per cohort and task: every run's scores, then splits and sizes."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    scores: dict[tuple[str, str], list[tuple[str, Estimate]]] = {}
    for name, of_run in results:
        for result in of_run:
            key = (result.cohort, result.task)
            empty = {
                "cohort": result.cohort,
                "task": result.task,
                "kind": result.kind,
                "synthetic": result.synthetic,
                "anchor": f"{result.cohort}-{result.task}",
                "runs": [],
                "study": None,
            }
            place = found.setdefault(key, empty)
            place["runs"].append({"name": name, **glance(result), "view": task_view(result)})
            score = result.predictors["model"].metrics[result.style.primary]
            scores.setdefault(key, []).append((name, score))
    for one in studies:
        key = (one["cohort"], one["task"])
        if key in found:
            found[key]["study"] = study_view(one, scores.get(key, ()))
    return list(found.values())
