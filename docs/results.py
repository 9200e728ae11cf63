"""Make the README's results anew: all folds of the real cohorts, fresh synthetic people, all seeds.

`make results` runs it. Steps that are done are skipped, so it may be interrupted. Every option of a
training is frozen in `src/fmrilm/demo.py` and the recipes it names; test people are read once, by
the evaluation at the end of each run.
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

from fmrilm.cli.demo import (
    FOLDS,
    REGULATE,
    SEED,
    SEX,
    STIMULUS,
    SUBJECTS,
    TRIALS,
    Part,
    real_folds,
    run_part,
    synthetic_cohort,
)
from fmrilm.evaluation.options import EvaluationOptions
from fmrilm.evaluation.pooled.folds import (
    FoldSummary,
    summarise_folds,
    summarise_split,
    write_folds,
)
from fmrilm.evaluation.readings import model_of, read_readings
from fmrilm.evaluation.results import TaskResult, read_results
from fmrilm.evaluation.runs import Run, open_cohorts, open_run

README = Path(__file__).parent.parent / "README.md"
MARKS = "<!-- results: make results -->", "<!-- end of results -->"
SIMULATE_SEED = 20261126  # used for nothing but these results; take a new one after looking at it

LOOKED_AT, UNTOUCHED = "*Looked at*", "*Untouched*"
STATUS = {
    "stimulus": (
        LOOKED_AT,
        "the options of the recipe were chosen with scores of these windows in view "
        "(docs/results/experiments.md)",
    ),
    "trials": (
        UNTOUCHED,
        "nothing was chosen on these labels. The people and the recipe are those of the question "
        "above, which was looked at",
    ),
    "regulate": (
        LOOKED_AT,
        "plain models of this question were compared on these runs before, the model was not",
    ),
    "sex": (
        UNTOUCHED,
        f"people of `fmrilm simulate` with seed {SIMULATE_SEED}, on whom nothing was chosen",
    ),
}


@dataclass(frozen=True)
class Options:
    """How much is run; the defaults are what README shows."""

    output: Path = Path("demo")
    folds: int = FOLDS
    seeds: int = 3  # training seeds of the stimulus and sex questions
    other_seeds: int = 1  # of the others
    subjects: int = SUBJECTS  # synthetic people
    parts: tuple[str, ...] = ("stimulus", "trials", "regulate", "sex")
    options: tuple[str, ...] = field(default=())  # of every training, to try things out


Found = list[tuple[Run, list[TaskResult]]]


def train_all(options: Options) -> dict[str, Found]:
    """Run what is not done yet; return the runs of every part with their results."""
    data, runs = options.output / "data", options.output / "runs"
    jobs: list[tuple[Part, Path, int]] = []
    for part in (STIMULUS, TRIALS, REGULATE):
        if part.name not in options.parts:
            continue
        seeds = options.seeds if part is STIMULUS else options.other_seeds
        folds = real_folds(data, part, options.folds)
        jobs += [(part, fold, SEED + more) for more in range(seeds) for fold in folds]
    if SEX.name in options.parts:
        folder = synthetic_cohort(data / f"UKB-{SIMULATE_SEED}", SIMULATE_SEED, options.subjects)
        jobs += [(SEX, folder, SEED + more) for more in range(options.seeds)]
    found: dict[str, Found] = {}
    started = time.perf_counter()
    for number, (part, cohort, seed) in enumerate(jobs, start=1):
        minutes = (time.perf_counter() - started) / 60
        print(f"---- run {number} of {len(jobs)}, after {minutes:.0f} min", flush=True)
        fresh = runs / "fresh" if part is SEX else runs  # the demo has a run of the same name
        run = open_run(run_part(part, cohort, fresh, seed, options.options, samples=0))
        found.setdefault(part.name, []).append((run, read_results(run.folder / "evaluation")))
    return found


def block(name: str, found: Found, folder: Path) -> str:
    """Return the README's text on one part, and write its files per person to ``folder``."""
    settings = EvaluationOptions()
    summaries: list[FoldSummary] = summarise_folds(found, settings) or summarise_split(
        found, settings
    )
    write_folds(folder / name, summaries)
    readings = readings_by_others(found)
    mark, why = STATUS[name]
    if readings:
        mark, why = LOOKED_AT, f"other models read the test people {readings} times"
    status = f"{mark}: {why}."
    blocks = []
    for summary in summaries:
        synthetic = next(iter(summary.pooled.values())).synthetic
        about = ["**SYNTHETIC data: says nothing about people.**", ""] if synthetic else []
        heading, *table = summary.lines()
        blocks.append("\n".join([heading, "", *about, status, *table]))
    return "\n\n".join(blocks)


def readings_by_others(found: Found) -> int:
    """Count how often a test split was read for models that are not in this table."""
    own = {model_of(run.folder) for run, _ in found}
    counts = [
        sum(
            own.isdisjoint(entry["models"]) for entry in read_readings(cohort, [run.folder]).entries
        )
        for run, _ in found
        for cohort in open_cohorts(run, None)
    ]
    return max(counts)


def put_into(readme: Path, text: str) -> None:
    """Rewrite what stands between the marks."""
    whole = readme.read_text(encoding="utf-8")
    before, rest = whole.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    readme.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    """Read the command line, run everything, rewrite the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    plain = Options()
    parser.add_argument("--output", type=Path, default=plain.output)
    for name in ("folds", "seeds", "other_seeds", "subjects"):
        parser.add_argument(f"--{name}", type=int, default=getattr(plain, name))
    parser.add_argument("--parts", nargs="+", default=plain.parts, choices=plain.parts)
    parser.add_argument("--options", nargs="+", default=(), help="of every training: key=value")
    parser.add_argument("--readme", type=Path, default=README)
    given = vars(parser.parse_args())
    readme = given.pop("readme")
    options = Options(
        **{**given, "parts": tuple(given["parts"]), "options": tuple(given["options"])}
    )
    found = train_all(options)
    folder = options.output / "results"
    put_into(readme, "\n\n".join(block(name, some, folder) for name, some in found.items()))
    print(f"results in {readme}, scores of every person below {folder}")


if __name__ == "__main__":
    main()
