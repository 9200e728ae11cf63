"""How often the 95% intervals of `fmrilm evaluate` hold the truth, over simulated data sets.

    OMP_NUM_THREADS=1 python benchmarks/intervals.py            # 500 data sets per row
    OMP_NUM_THREADS=1 python benchmarks/intervals.py --sets 100 --people 20,60

Every person has one to three scans that share 80% of their noise; scores are normal, so that the
true AUC, accuracy, correlation and AUC difference are known. Prints one Markdown table.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from fmrilm.evaluation.intervals import Answers, differences, estimates, score_samples
from fmrilm.evaluation.metrics import accuracy, auc
from fmrilm.evaluation.value_metrics import pearson

CLASSES = ["no", "yes"]
SHARED = 0.8  # share of the noise that is a person's own
WEAKER = 0.65  # AUC of the predictor in the differences
METRICS = {"AUC": auc, "accuracy": accuracy, "r": pearson, "AUC difference": auc}
CASES = (
    *(("AUC", true) for true in (0.6, 0.76, 0.9)),
    *(("accuracy", true) for true in (0.6, 0.76, 0.9)),
    *(("AUC difference", true) for true in (0.7, 0.9)),
    *(("r", true) for true in (0.2, 0.6)),
)


@dataclass
class People:
    """Scans of some people, half of them in each class."""

    subjects: np.ndarray
    labels: np.ndarray
    rng: np.random.Generator

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> People:
        subjects = np.repeat(np.arange(count), rng.integers(1, 4, count))
        return cls(subjects, np.resize([0, 1], count)[subjects], rng)

    def own(self) -> np.ndarray:
        """A number per scan that a person's scans share."""
        return self.rng.normal(size=self.subjects.max() + 1)[self.subjects]

    def noise(self) -> np.ndarray:
        scan = self.rng.normal(size=len(self.subjects))
        return np.sqrt(SHARED) * self.own() + np.sqrt(1 - SHARED) * scan

    def classify(self, true_auc: float, noise: np.ndarray) -> Answers:
        scores = np.sqrt(2) * norm.ppf(true_auc) * (self.labels - 0.5) + noise
        positive = 1 / (1 + np.exp(-scores))
        return Answers(np.stack([1 - positive, positive], axis=1))


def covers(name: str, true: float, people: People, seed: int) -> tuple[bool, float]:
    """Whether the interval of one data set holds the truth, and how wide it is."""
    labels, noise, truth = people.labels, people.noise(), true
    if name == "r":
        labels = people.own()
        values = true * labels + np.sqrt(1 - true**2) * noise
        answers = {"a": Answers(values[:, None], values)}
    else:
        answers = {"a": people.classify(true, noise)}
    if name == "accuracy":
        truth = norm.cdf(norm.ppf(true) / np.sqrt(2))
    if name == "AUC difference":
        answers["b"] = people.classify(WEAKER, 0.7 * noise + np.sqrt(1 - 0.49) * people.noise())
        truth = true - WEAKER
    samples = score_samples(answers, labels, people.subjects, {name: METRICS[name]}, 1000, seed)
    if name == "AUC difference":
        found = differences(samples["a"], samples["b"], labels, people.subjects, CLASSES)[name]
    else:
        found = estimates(samples["a"], labels, people.subjects, CLASSES)[name]
    return bool(found.low <= truth <= found.high), found.high - found.low


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", type=int, default=500, help="data sets per row")
    parser.add_argument("--people", default="12,20,30,60,120", help="comma-separated")
    parser.add_argument("--scores", default=",".join(METRICS), help="comma-separated")
    options = parser.parse_args()
    started = time.perf_counter()
    sizes = [int(count) for count in options.people.split(",")]
    print("Coverage in % (mean width):\n")
    print(f"| score | truth | {' | '.join(f'{count} people' for count in sizes)} |")
    print("|" + "---|" * (2 + len(sizes)))
    for name, true in CASES:
        if name not in options.scores.split(","):
            continue
        cells = []
        for count in sizes:
            rng = np.random.default_rng([count, int(1000 * true), len(name)])
            found = [
                covers(name, true, People.draw(count, rng), seed) for seed in range(options.sets)
            ]
            held, width = np.mean(found, axis=0)
            cells.append(f"{100 * held:.1f} ({width:.2f})")
        print(f"| {name} | {true} | {' | '.join(cells)} |", flush=True)
    seconds = time.perf_counter() - started
    print(f"\n{options.sets} data sets each, {seconds:.0f} s")


if __name__ == "__main__":
    main()
