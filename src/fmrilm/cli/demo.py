"""`fmrilm demo`: the whole pipeline, on real BOLD and on a synthetic cohort."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One cohort's way through the pipeline; recipe and stages are frozen, whoever is tested."""

    name: str
    recipe: str
    family: str  # descriptor
    stages: dict[str, list[str]]  # options of each stage, on top of the recipe


WINDOWS = {
    "tokenizer": ["train.epochs=4"],
    "align": ["train.epochs=1", "train.batch_size=8"],
    "instruct": ["train.epochs=7", "train.batch_size=16"],
}
SCANS = {
    "tokenizer": ["train.epochs=5"],
    "align": ["train.epochs=1", "train.batch_size=8"],
    "instruct": ["train.epochs=8"],
}
STIMULUS = Part("stimulus", "demo_stimulus.yaml", "activation", WINDOWS)
TRIALS = Part("trials", "demo_stimulus.yaml", "activation", WINDOWS)
REGULATE = Part("regulate", "demo_regulate.yaml", "fc", SCANS)
SEX = Part("sex", "demo_synthetic.yaml", "fc", SCANS)

SUBJECTS = 430  # synthetic people; 300 of them train
FOLDS, FOLD_SEED = 5, 20261126  # of the 33 people of the real cohorts
SEED = 1337  # of training


def demo(*, output: Path = Path("demo"), real: bool = True, synthetic: bool = True) -> Path:
    """Run every step on real BOLD and on synthetic scans, and print where the report lies.

    Real: 33 people who felt heat and rated it (package connattractor), one of five folds, six or
    seven of them tested; `make results` runs all folds. Synthetic: 430 made-up people at 450
    regions x 160 volumes with a planted effect of sex. Steps that are done are skipped.

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
    from fmrilm.reporting.report import report

    started = time.perf_counter()
    runs: list[Path] = []
    if real:
        fold = real_folds(output / "data", STIMULUS)[0]
        runs.append(run_part(STIMULUS, fold, output / "runs"))
    if synthetic:
        cohort = synthetic_cohort(output / "data/UKB", seed=0)
        runs.append(run_part(SEX, cohort, output / "runs"))
    page = report([str(run) for run in runs], output=str(output / "report.html"))
    print(f"demo: {time.perf_counter() - started:.0f} s; open {page.resolve()}")
    if synthetic:
        print(f"ask a scan: fmrilm ask {runs[-1]} {output / 'data/UKB'}:sub-UKB0001")
    if runs:
        print(
            f"or in a browser: fmrilm web {' '.join(map(str, runs))}  # pip install 'fmrilm[web]'"
        )
    return page


def real_folds(data: Path, part: Part, count: int = FOLDS) -> list[Path]:
    """Build the real cohorts below ``data`` and return the folds of one of them."""
    from fmrilm.datasets.folds import make_folds
    from fmrilm.datasets.heat_pain import demo_data

    cohort = data / "pain" / part.name
    run_step("real cohorts", cohort / "cohort.yaml", lambda: demo_data(str(data / "pain")))
    return make_folds(cohort, count=count, seed=FOLD_SEED)


def synthetic_cohort(folder: Path, seed: int, subjects: int = SUBJECTS) -> Path:
    """Simulate a stand-in of UKB in ``folder`` and return it."""
    from fmrilm.datasets.synthetic.cohort import simulate

    run_step(
        "synthetic cohort",
        folder / "cohort.yaml",
        lambda: simulate(str(folder), cohort="UKB", subjects=subjects, seed=seed),
    )
    return folder


def run_part(
    part: Part,
    cohort: Path,
    runs: Path,
    seed: int = SEED,
    options: Sequence[str] = (),
    samples: int = 4,
) -> Path:
    """Take one cohort folder through describing, three stages and evaluation; return the last run.

    Parameters
    ----------
    part : Part
    cohort : path
        The folder; that of a fold is named in the runs' names.
    runs : path
        Gets one folder per stage.
    seed : int
        Training seed.
    options : sequence of str
        Options on top of those of the part, such as ``train.epochs=1``.
    samples : int
        Scans per cohort that are described in free text.
    """
    from fmrilm.description.describe import describe
    from fmrilm.evaluation.evaluate import evaluate
    from fmrilm.training.build import train_stage

    fold = f"-{cohort.name}" if cohort.name.startswith("fold-") else ""
    name = f"{part.name}{fold}" if seed == SEED else f"{part.name}{fold}-seed-{seed}"
    described = cohort / f"descriptors_rewritten/{part.family}_descriptors.csv"
    run_step(f"{name}: describe", described, lambda: describe(cohort, types=part.family))
    recipe = Path(str(files("fmrilm") / "recipes" / part.recipe))
    parent: Path | None = None
    for stage, settings in part.stages.items():
        folder = runs / f"{name}-{stage}"

        train = partial(
            train_stage,
            stage,
            [f"data.dataset_dir=[{cohort}]", f"train.seed={seed}", *settings, *options],
            config=[recipe],
            output=folder,
            init=parent,
            overwrite=True,  # what is not done was interrupted
        )
        run_step(f"{name}: train {stage} ({' '.join(settings)})", folder / "done", train)
        (folder / "done").touch()
        parent = folder
    assert parent is not None
    ask = partial(evaluate, [str(parent)], samples=samples)
    run_step(f"{name}: evaluate", parent / "evaluation" / "metrics.json", ask)
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
