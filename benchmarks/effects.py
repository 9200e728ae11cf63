"""What the model sees that connectivity cannot: one effect at a time, on people nobody has seen.

    python benchmarks/effects.py --effects lag,switching --people 100,300 --seed 9301 --output OUT

For every effect of ``fmrilm simulate --effect`` and every number of training people, SYNTHETIC
scans of 450 regions x 160 volumes are made, a tokenizer and a language model (tiny, from scratch)
are trained, and the test people are asked once. The rows: the model, FC and tangent space with a
penalised logistic regression, the model with another person's summary or tokens, without the scan;
and the oracle that measures the planted property where it was planted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
EFFECTS = "fc,lag,switching,reversal,burst,mixed"
VAL, TEST = 60, 300  # people
OPTIONS = ["data.desc_type=[]", "tokenizer.clip_weight=0"]
TOKENIZER = ["train.epochs=1"]
INSTRUCT = ["train.epochs=10", "model.lm.token_dropout=0.9"]
SHOWN = {
    "model": "model",
    "fc": "FC",
    "tangent": "tangent",
    "summary_swapped": "summary swapped",
    "tokens_swapped": "tokens swapped",
    "shuffled": "shuffled",
    "text_only": "text only",
}


def fmrilm(*words: str) -> None:
    """Run a command of the package; what it says goes to the end of the log if it fails."""
    done = subprocess.run([sys.executable, "-m", "fmrilm", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"fmrilm {' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def make(folder: Path, effect: str, people: int, seed: int) -> dict[str, float]:
    """Write a cohort with a split of its own; return what the oracle has."""
    total = people + VAL + TEST
    fmrilm("simulate", str(folder), "--effect", effect, "--subjects", str(total),
           "--seed", str(seed))  # fmt: skip
    split = np.repeat(["train", "val", "test"], [people, VAL, TEST])
    table = pd.read_csv(folder / "splits.tsv", sep="\t")
    table["split"] = np.random.default_rng(seed).permutation(split)
    table.to_csv(folder / "splits.tsv", sep="\t", index=False)
    (folder / "normalization_params.npz").unlink(missing_ok=True)
    return json.loads((folder / "planted_effects.json").read_text())["oracle_auc"]


def run(folder: Path, effect: str, people: int, seed: int, training_seed: int) -> dict[str, object]:
    """Train and evaluate once."""
    started = time.perf_counter()
    cohort = folder / f"{effect}-{people}-{seed}"
    oracle = make(cohort, effect, people, seed)
    common = ["-c", str(ROOT / "configs/vit_tiny.yaml"), f"data.dataset_dir=[{cohort}]",
              f"train.seed={training_seed}", *OPTIONS]  # fmt: skip
    place = folder / f"run-{effect}-{people}-{seed}-{training_seed}"
    fmrilm("train", "tokenizer", "-o", str(place / "tok"), *common, *TOKENIZER)
    fmrilm("train", "instruct", "-o", str(place / "inst"), "--init", str(place / "tok"), *common,
           *INSTRUCT)  # fmt: skip
    fmrilm("evaluate", str(place / "inst"), "--baselines", "fc,tangent", "--no-free_text",
           "--no-scrutiny")  # fmt: skip
    (result,) = json.loads((place / "inst/evaluation/metrics.json").read_text())["results"]
    row: dict[str, object] = {"effect": effect, "people": people, "seed": seed,
                              "training_seed": training_seed}  # fmt: skip
    for name, title in SHOWN.items():
        if name in result["predictors"]:
            score = result["predictors"][name]["metrics"]["auc"]
            row[title] = round(score["value"], 3)
            if name == "model":
                row["interval"] = [round(score["low"], 2), round(score["high"], 2)]
    row["oracle"] = max(oracle.values())
    row["seconds"] = round(time.perf_counter() - started)
    return row


def main() -> None:
    """Print one row per effect, number of people and seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--effects", default=EFFECTS)
    parser.add_argument("--people", default="100,300", help="training people")
    parser.add_argument("--seed", type=int, required=True, help="of the scans")
    parser.add_argument("--training_seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="folder for cohorts and runs")
    args = parser.parse_args()
    for people in map(int, args.people.split(",")):
        for effect in args.effects.split(","):
            row = run(args.output, effect, people, args.seed, args.training_seed)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
