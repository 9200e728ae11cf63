"""Transfer between synthetic cohorts, which says nothing about people: zero-shot and few-shot.

    python benchmarks/transfer.py FOLDER [people of a training cohort [of another]]

1. Trained on UKB- and ABCD-like people (sex) with the recipe of the demo, asked about everybody of
   five cohorts it never saw, beside functional connectivity (FC) + logistic regression of the same
   training scans, shuffled scans and the question without a scan.
2. Few-shot: that model is trained on 0, 2, 4 or 10 people per diagnosis of a new cohort, drawn anew
   with every seed, and asked about people it was not shown; beside FC + logistic of the same few
   scans. Steps and learning rate were raised once, after test scores of a first run were seen.
FOLDER keeps cohorts and runs; what is there is not made again.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import numpy as np

SOURCES, TARGETS = ("UKB", "ABCD"), ("HCP", "HCP-Aging", "ADNI", "ADHD200", "ABIDE2")
EPOCHS = {"tokenizer": 5, "align": 1, "instruct": 8}  # as in the demo
FEWSHOT = {"ABIDE2": "ASD", "ADNI": "AD"}
COUNTS, SEEDS, STEPS = (2, 4, 10), range(5), 48
PARTS = (0.35, 0.05, 0.6)  # of the people of a target cohort: to draw from, for val, to ask about
RECIPE = files("fmrilm.recipes") / "demo_synthetic.yaml"


def make_cohorts(folder: Path, people: dict[str, int]) -> dict[str, Path]:
    """Return the cohort folders; target cohorts are divided for few-shot learning."""
    import pandas as pd

    from fmrilm import simulate
    from fmrilm.cohort.splits import split_subjects
    from fmrilm.description.describe import describe

    paths = {name: folder / "data" / name for name in people}
    for name, path in paths.items():
        if (path / "done").is_file():
            continue
        simulate(str(path), cohort=name, subjects=people[name])
        if name in SOURCES:
            describe(path, types="fc")
        else:
            table = pd.read_csv(path / "participants.tsv", sep="\t")
            columns = ["sex", *([FEWSHOT[name]] if name in FEWSHOT else [])]
            parts = split_subjects(table, columns, PARTS)
            parts.to_csv(path / "splits.tsv", sep="\t", index=False)
        (path / "done").touch()
    return paths


def train_source(folder: Path, paths: dict[str, Path]) -> Path:
    """Return the run of stage 3 on the training cohorts."""
    from fmrilm import train

    init = None
    for stage, epochs in EPOCHS.items():
        run = folder / "runs" / stage
        if not (run / "model").is_dir():
            where = ",".join(str(paths[name]) for name in SOURCES)
            options = [f"data.dataset_dir=[{where}]", f"train.epochs={epochs}"]
            train(stage, options, config=[Path(str(RECIPE))], output=run, init=init)
        init = run
    return run


def connectivity(cohort, rows: np.ndarray) -> np.ndarray:
    from fmrilm.evaluation.baselines.features import extract

    return extract(cohort, rows, 160, ["fc"])["fc"]


def one_scan_each(question) -> np.ndarray:
    """Return the places of everybody's first scan."""
    return np.unique(question.subjects, return_index=True)[1]


def everybody(cohort, task) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, labels, subjects and sites of everybody's first scan."""
    from fmrilm.evaluation.questions import select

    found = []
    for split in ("train", "val", "test"):
        question = select(cohort, task, split)
        first = one_scan_each(question)
        parts = (question.rows, question.labels, question.subjects, question.sites)
        found.append([part[first] for part in parts])
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def ask(model, cohort, rows: np.ndarray, task, kind: str = "scan") -> np.ndarray:
    """Return the probability of the second answer, (n,)."""
    from fmrilm.evaluation.scoring import Scorer
    from fmrilm.tasks import build_prompt

    prompts = [build_prompt(task)] * len(rows)
    scorer = Scorer(model, cohort, 160)
    return scorer.probabilities(rows, prompts, task.candidates, kind)[:, 1]


def with_interval(labels: np.ndarray, scores: np.ndarray) -> str:
    """Return the AUC and its 95% interval over people."""
    from sklearn.metrics import roc_auc_score

    rng, values = np.random.default_rng(0), []
    while len(values) < 2000:
        drawn = rng.integers(len(labels), size=len(labels))
        if len(np.unique(labels[drawn])) == 2:
            values.append(roc_auc_score(labels[drawn], scores[drawn]))
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{roc_auc_score(labels, scores):.3f} [{low:.2f}, {high:.2f}]"


def shuffled(labels: np.ndarray, scores: np.ndarray, subjects, sites) -> float:
    """Return the mean AUC of ten exchanges of the scans between people."""
    from sklearn.metrics import roc_auc_score

    from fmrilm.evaluation.controls import N_SHUFFLES, shuffle_scans

    sources = [shuffle_scans(subjects, sites, seed) for seed in range(N_SHUFFLES)]
    return float(np.mean([roc_auc_score(labels, scores[source]) for source in sources]))


def over_draws(values: list[float]) -> str:
    """Return the mean and its 95% t interval over draws."""
    from scipy import stats

    mean, spread = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    reach = spread * stats.t.ppf(0.975, len(values) - 1)
    return f"{mean:.3f} [{mean - reach:.2f}, {min(1.0, mean + reach):.2f}]"


def zero_shot(run: Path, paths: dict[str, Path]) -> None:
    """Print the table of the cohorts the run never saw."""
    from fmrilm import FMRILM, Cohort
    from fmrilm.evaluation.baselines.linear import LinearBaseline
    from fmrilm.evaluation.baselines.span import Span
    from fmrilm.evaluation.questions import select
    from fmrilm.tasks import TASKS

    task, model = TASKS["sex"], FMRILM.from_pretrained(run / "model")
    known = {"train": ([], [], []), "val": ([], [], [])}
    for name in SOURCES:
        for split, (inputs, labels, people) in known.items():
            question = select(Cohort(paths[name]), task, split)
            inputs.append(connectivity(question.cohort, question.rows))
            labels.append(question.labels)
            people.append(np.char.add(f"{name}/", question.subjects))
    inputs, labels, people = (
        tuple(np.concatenate(part) for part in parts) for parts in zip(*known.values(), strict=True)
    )
    span = Span().fit(*inputs)
    inputs = tuple(span.transform(part) for part in inputs)
    baseline = LinearBaseline().fit(inputs, labels, people)
    print("\n| sex, zero-shot | people | fMRI-LM | FC + logistic | text only | shuffled scan |")
    print("|---|---|---|---|---|---|")
    for name in TARGETS:
        cohort = Cohort(paths[name])
        rows, labels, subjects, sites = everybody(cohort, task)
        scores = ask(model, cohort, rows, task)
        columns = {
            "model": scores,
            "fc": baseline.predict_proba(span.transform(connectivity(cohort, rows)), 2)[:, 1],
            "text": ask(model, cohort, rows, task, "text_only"),
        }
        cells = " | ".join(with_interval(labels, one) for one in columns.values())
        cells += f" | {shuffled(labels, scores, subjects, sites):.3f}"
        print(f"| {name} | {len(rows)} | {cells} |", flush=True)


def few_shot(run: Path, name: str, path: Path, folder: Path) -> None:
    """Print the curve of one cohort's diagnosis."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from fmrilm import FMRILM, Cohort, train
    from fmrilm.config.schema import load_config
    from fmrilm.evaluation.questions import select
    from fmrilm.tasks import TASKS
    from fmrilm.training.data.questions import collect_questions

    cohort, task = Cohort(path), TASKS[FEWSHOT[name]]
    question = select(cohort, task, "test")
    first = one_scan_each(question)
    rows, labels = question.rows[first], question.labels[first]
    people = question.subjects[first], question.sites[first]
    asked = connectivity(cohort, rows)
    untrained = ask(FMRILM.from_pretrained(run / "model"), cohort, rows, task)
    print(f"| {name} {task.name} | {len(rows)} | 0 | {with_interval(labels, untrained)} | | |")
    for count in COUNTS:
        found: dict[str, list[float]] = {"model": [], "fc": [], "shuffled": []}
        for seed in SEEDS:
            output = folder / "runs" / f"{name}-{count}-{seed}"
            batch = min(8, 2 * count)
            options = [
                f"data.dataset_dir=[{path}]",
                f"instruct.tasks=[{task.name}]",
                f"instruct.fewshot_samples={count}",
                f"train.seed={seed}",
                f"train.batch_size={batch}",
                f"train.epochs={STEPS // (2 * count // batch)}",
                "train.select_best=false",
            ]
            if not (output / "model").is_dir():
                train("instruct", options, config=[Path(str(RECIPE))], output=output, init=run)
            config = load_config([Path(str(RECIPE))], options)
            shown, questions = collect_questions(config, [cohort], "train")
            few = connectivity(cohort, np.array([row for _, row in shown]))
            classes = [one.class_index for one in questions]
            plain = make_pipeline(StandardScaler(), LogisticRegression(C=1e-4, max_iter=2000))
            scores = ask(FMRILM.from_pretrained(output / "model"), cohort, rows, task)
            found["model"].append(roc_auc_score(labels, scores))
            found["shuffled"].append(shuffled(labels, scores, *people))
            found["fc"].append(
                roc_auc_score(labels, plain.fit(few, classes).decision_function(asked))
            )
        cells = " | ".join(over_draws(found[key]) for key in ("model", "fc", "shuffled"))
        print(f"| {name} {task.name} | {len(rows)} | {count} | {cells} |", flush=True)


def main(folder: str, of_source: int = 200, of_target: int = 100) -> None:
    """Make cohorts and runs, and print both tables."""
    root = Path(folder)
    people = dict.fromkeys(SOURCES, of_source) | dict.fromkeys(TARGETS, of_target)
    paths = make_cohorts(root, people)
    run = train_source(root, paths)
    zero_shot(run, paths)
    print("\n| few-shot | people | per class | fMRI-LM | FC + logistic | shuffled scan |")
    print("|---|---|---|---|---|---|")
    for name in FEWSHOT:
        few_shot(run, name, paths[name], root)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
