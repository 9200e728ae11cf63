"""`fmrilm benchmark`: runs and plain models over cohorts, splits and training sizes on a page."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from fmrilm.data.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.evaluation.baselines import TITLES
from fmrilm.evaluation.covariates import design, known_covariates
from fmrilm.evaluation.embedding import embed_rows
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.features import SHORT, extract
from fmrilm.evaluation.intervals import Estimate
from fmrilm.evaluation.questions import Question, prompts_for, select, tasks_of
from fmrilm.evaluation.repeats import Scans, learning_curve, leave_site_out, repeated_splits
from fmrilm.evaluation.results import read_results
from fmrilm.evaluation.runs import Run, open_cohorts, open_run
from fmrilm.evaluation.scoring import Scorer
from fmrilm.reporting import charts
from fmrilm.reporting.report import render
from fmrilm.reporting.svg import Line
from fmrilm.reporting.task_view import task_view

FROZEN = "frozen features of {} + logistic"
STYLES = ("model", "other", "warm", "faint")


def benchmark(
    runs: list[str],
    *,
    output: str = "benchmark",
    datasets: str | None = None,
    baselines: str = "all",
    controls: str = "all",
    repeats: int = 5,
    batch_size: int = 32,
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
    refresh : bool
        Evaluate anew; otherwise what lies in ``output`` is used where it is complete.

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
    started = time.perf_counter()
    folder = Path(output)
    parts = []
    for given in runs:
        run = open_run(given)
        scores = folder / run.folder.resolve().name
        if refresh or not (scores / "metrics.json").is_file():
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
    studies = _studies([run for run, _ in parts], datasets, repeats, batch_size)
    views = [
        {
            "name": run.folder.resolve().name,
            "tasks": [task_view(result) for result in read_results(scores)],
        }
        for run, scores in parts
    ]
    minutes = (time.perf_counter() - started) / 60
    page = render(
        "benchmark.html",
        runs=views,
        studies=[study_view(study) for study in studies],
        minutes=minutes,
        synthetic=any(study["synthetic"] for study in studies),
    )
    (folder / "benchmark.json").write_text(
        json.dumps({"minutes": minutes, "studies": studies}, indent=2, default=_plain) + "\n"
    )
    path = folder / "benchmark.html"
    path.write_text(page, encoding="utf-8")
    print(f"benchmark in {path} ({minutes:.1f} minutes)")
    return path


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, Estimate) else value.tolist()


def _studies(
    runs: list[Run], datasets: str | None, repeats: int, batch_size: int
) -> list[dict[str, Any]]:
    """Return repeated splits, sites left out and learning curves of every cohort and task."""
    asked: dict[tuple[str, str], tuple[Cohort, list[Run]]] = {}
    tasks = {}
    for run in runs:
        for cohort in open_cohorts(run, datasets):
            for task in tasks_of(cohort, run.config):
                if not task.classes:  # numbers have no plain models over splits yet
                    continue
                key = (cohort.name, task.name)
                tasks[key] = task
                asked.setdefault(key, (cohort, []))[1].append(run)
    return [
        study(cohort, tasks[key], of_runs, repeats, batch_size)
        for key, (cohort, of_runs) in asked.items()
    ]


def study(
    cohort: Cohort, task: Any, runs: list[Run], repeats: int, batch_size: int
) -> dict[str, Any]:
    """Return what plain models reach on one task of one cohort when splits and sizes change."""
    parts: list[Question] = [select(cohort, task, split) for split in ("train", "val", "test")]
    rows = np.concatenate([part.rows for part in parts])
    length = runs[0].config.model.vq_model.num_timestamp
    wanted = ["values", "region_means"] if length < SHORT else ["fc", "region_means"]
    features: dict[str, np.ndarray] = extract(cohort, rows, length, wanted)
    columns = known_covariates(parts[0])
    if columns:
        tables = [design(part, columns, parts[0].rows) for part in parts]
        features = {"covariates": np.concatenate(tables), **features}
    scans = Scans(
        features,
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.subjects for part in parts]),
        np.concatenate([part.sites for part in parts]),
        len(task.classes),
    )
    edges = np.cumsum([0, *(len(part.rows) for part in parts)])
    splits = tuple(np.arange(a, b) for a, b in pairwise(edges))
    probes = dict(features)
    for run in runs:
        scorer = Scorer(run.load_model(), cohort, length, batch_size, length=run.config.data.length)
        prompt = prompts_for(parts[0], run.config)[0]
        title = FROZEN.format(run.folder.resolve().name)
        probes[title] = embed_rows(scorer, rows, prompt, "mean")
    curve_scans = Scans(probes, scans.labels, scans.subjects, scans.sites, scans.n_classes)
    return {
        "cohort": cohort.name,
        "synthetic": cohort.info.synthetic,
        "task": task.name,
        "n_people": len(np.unique(scans.subjects)),
        "repeats": repeated_splits(scans, repeats),
        "sites": leave_site_out(scans),
        "curves": learning_curve(curve_scans, splits),  # type: ignore[arg-type]
    }


def study_view(found: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a study."""
    lines, key = [], []
    for index, (name, points) in enumerate(found["curves"].items()):
        style = STYLES[(index + 1) % len(STYLES)] if "frozen" not in name else "model"
        values = [point["estimate"].value for point in points]
        lines.append(Line([point["people"] for point in points], values, style, name))
        key.append((style, TITLES.get(name, name)))
    return {
        **{name: found[name] for name in ("cohort", "task", "synthetic", "n_people")},
        "repeats": [
            {"title": TITLES[name], "auc": row["estimate"], "n": len(row["scores"])}
            for name, row in found["repeats"].items()
        ],
        "sites": [
            {"title": TITLES[name], "scores": scores} for name, scores in found["sites"].items()
        ],
        "curve": Markup(charts.learning_chart(lines)),
        "key": key,
    }
