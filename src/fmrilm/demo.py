"""`fmrilm demo`: the whole pipeline, on real BOLD and on a synthetic cohort."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One cohort's way through the pipeline."""

    name: str
    recipe: str
    family: str  # descriptor
    stages: dict[str, list[str]]  # options of each stage, on top of the recipe


HEAT = Part(
    "heat",
    "demo_heat.yaml",
    "activation",
    {
        "tokenizer": ["train.epochs=4"],
        "align": ["train.epochs=1", "train.batch_size=8"],
        "instruct": ["train.epochs=7", "train.batch_size=16"],
    },
)
SEX = Part(
    "sex",
    "demo_synthetic.yaml",
    "fc",
    {
        "tokenizer": ["train.epochs=5"],
        "align": ["train.epochs=1", "train.batch_size=8"],
        "instruct": ["train.epochs=8"],
    },
)
SUBJECTS = 430  # synthetic people; 300 of them train


def demo(*, output: Path = Path("demo"), real: bool = True, synthetic: bool = True) -> Path:
    """Run every step on real BOLD and on synthetic scans, and print where the report lies.

    Real: 33 people feeling painful heat (package connattractor). Synthetic: 430 made-up people
    at 450 regions x 160 volumes with a planted effect of sex. Steps that are done are skipped.

    Parameters
    ----------
    output : Path
        Folder for data, runs and the report.
    real : bool
        Run the real part.
    synthetic : bool
        Run the synthetic part.

    Returns
    -------
    Path
        The report.

    Examples
    --------
    fmrilm demo --output demo
    """
    from fmrilm.data.pain import demo_data
    from fmrilm.data.synthetic import simulate
    from fmrilm.reporting.report import report

    started = time.perf_counter()
    data, runs = output / "data", []
    if real:
        run_step(
            "real cohort", data / "pain/heat/cohort.yaml", lambda: demo_data(str(data / "pain"))
        )
        runs.append(_run(HEAT, data / "pain/heat", output / "runs"))
    if synthetic:
        folder = data / "UKB"
        run_step(
            "synthetic cohort",
            folder / "cohort.yaml",
            lambda: simulate(str(folder), cohort="UKB", subjects=SUBJECTS, seed=0),
        )
        runs.append(_run(SEX, folder, output / "runs"))
    page = report([str(run) for run in runs], output=str(output / "report.html"))
    print(f"demo: {time.perf_counter() - started:.0f} s; open {page.resolve()}")
    return page


def _run(part: Part, cohort: Path, runs: Path) -> Path:
    from fmrilm.data.describe import describe
    from fmrilm.evaluation.evaluate import evaluate
    from fmrilm.training.build import train_stage

    described = cohort / f"descriptors_rewritten/{part.family}_descriptors.csv"
    run_step(f"{part.name}: describe", described, lambda: describe(cohort, types=part.family))
    recipe = Path(str(files("fmrilm") / "recipes" / part.recipe))
    parent: Path | None = None
    for stage, settings in part.stages.items():
        folder = runs / f"{part.name}-{stage}"

        train = partial(
            train_stage,
            stage,
            [f"data.dataset_dir=[{cohort}]", *settings],
            config=[recipe],
            output=folder,
            init=parent,
        )
        run_step(f"{part.name}: train {stage} ({' '.join(settings)})", folder / "done", train)
        (folder / "done").touch()
        parent = folder
    assert parent is not None
    scores = parent / "evaluation" / "metrics.json"
    run_step(f"{part.name}: evaluate", scores, lambda: evaluate([str(parent)], n_resamples=1000))
    return parent


def run_step(name: str, result: Path, run: Callable[[], object]) -> float:
    """Run a step unless its ``result`` is there; say so, and return how many seconds it took."""
    if result.exists():
        print(f"== {name}: done before")
        return 0.0
    print(f"== {name}", flush=True)
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    print(f"   {seconds:.0f} s", flush=True)
    return seconds
