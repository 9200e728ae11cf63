"""One model on synthetic stand-ins of all seven cohorts, beside every baseline and control.

    python benchmarks/cohorts.py --output benchmark

Simulates the cohorts (SYNTHETIC: nothing here says anything about people), trains the three stages
of one small model on all of them together and makes ``benchmark.html``: every cohort, every task
of its ``cohort.yaml``. What is finished is not made again. Prints how long each step took.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

from fmrilm.cli.demo import run_step
from fmrilm.datasets.synthetic.cohort import PLANS, simulate
from fmrilm.description.describe import describe
from fmrilm.jobs import workers
from fmrilm.reporting.benchmark import benchmark
from fmrilm.training.build import train_stage

STAGES = {
    "tokenizer": ["train.epochs=2"],
    "align": ["train.epochs=1", "train.batch_size=16"],
    "instruct": ["train.epochs=5"],
}


def make_cohort(name: str, data: Path, subjects: int) -> None:
    """Simulate and describe one cohort, unless it is there."""
    folder = data / name
    planted = folder / "planted_effects.json"
    if not (planted.is_file() and "effects" in json.loads(planted.read_text())):  # written last
        simulate(str(folder), cohort=name, subjects=subjects, seed=0)
    describe(folder, types="fc", jobs=1)


def main() -> None:
    """Read the options and run every step."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("benchmark"))
    parser.add_argument("--subjects", type=int, default=120, help="people per cohort")
    parser.add_argument("--cohorts", default=",".join(PLANS), help="names, separated by commas")
    parser.add_argument("overrides", nargs="*", help="section.key=value for all three stages")
    given = parser.parse_args()
    names = given.cohorts.split(",")
    data, runs = given.output / "data", given.output / "runs"
    seconds: dict[str, float] = {}

    def step(name: str, result: Path, run: Callable[[], object]) -> None:
        seconds[name] = run_step(name, result, run)
        result.touch()

    def cohorts() -> None:
        with workers(min(os.cpu_count() or 1, len(names))) as run_all:
            for _ in run_all(partial(make_cohort, data=data, subjects=given.subjects), names):
                pass

    data.mkdir(parents=True, exist_ok=True)
    step("simulate and describe", data / "done", cohorts)
    recipe = Path(str(files("fmrilm") / "recipes" / "cohorts.yaml"))
    folders = ",".join(str(data / name) for name in names)
    parent: Path | None = None
    for stage, settings in STAGES.items():
        pairs = [f"data.dataset_dir=[{folders}]", *settings, *given.overrides]
        folder = runs / stage
        train = partial(train_stage, stage, pairs, config=[recipe], output=folder, init=parent)
        again = partial(train, overwrite=True)  # what is not done was interrupted
        step(f"train {stage} ({' '.join(settings)})", folder / "done", again)
        parent = folder
    started = time.perf_counter()
    benchmark([str(parent)], output=str(given.output))
    seconds["benchmark"] = time.perf_counter() - started
    for name, value in {**seconds, "all": sum(seconds.values())}.items():
        print(f"{value:7.0f} s  {name}")
    (given.output / "seconds.json").write_text(json.dumps(seconds, indent=2) + "\n")


if __name__ == "__main__":
    main()
