"""How often the 95% intervals of `fmrilm evaluate` hold the truth, over simulated data sets.

    OMP_NUM_THREADS=1 python benchmarks/intervals.py                       # 1000 data sets per row
    OMP_NUM_THREADS=1 python benchmarks/intervals.py --design clustered --sets 200 --people 7,12

Two designs. `scans`: a person has one to three scans of one class that share 80% of their noise.
`clustered`: a person has 56 windows, half of each class; people differ in the mean of their scores
and in how far apart their classes are. In both the scores are normal, so that the truth is known;
that of F1 and of the mean absolute error is computed from the same distributions. Prints one
Markdown table per design, with the share of data sets in which the interval lies below and above
the truth.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from fmrilm.stats.classification import Metric, accuracy, auc, balanced_accuracy, f1
from fmrilm.stats.intervals import Answers, Estimate, differences, estimates, score_samples
from fmrilm.stats.regression import mae, pearson

CLASSES = ["no", "yes"]
METRICS: dict[str, Metric] = {
    "auc": auc,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "r": pearson,
    "mae": mae,
}
TOGETHER = 0.7  # correlation of the two predictors' noise
WINDOWS = 56  # of a person in the clustered design
MEAN_SD = 0.6  # of people's mean scores, in standard deviations of their windows
APART_SD = 0.3  # of people's class distances, as a share of the distance
CASES = {
    "scans": (
        *(("auc", true, None) for true in (0.6, 0.76, 0.9)),
        *(("accuracy", true, None) for true in (0.6, 0.76, 0.9)),
        *(("auc", true, 0.65) for true in (0.7, 0.9)),
        *(("r", true, None) for true in (0.2, 0.6)),
    ),
    "clustered": (
        *(("auc", true, None) for true in (0.76, 0.927, 0.987)),
        *(("auc", true, other) for true, other in ((0.927, 0.76), (0.987, 0.927), (0.927, 0.927))),
        *(("balanced_accuracy", true, None) for true in (0.76, 0.927)),
        ("balanced_accuracy", 0.927, 0.76),
        *(("f1", true, None) for true in (0.76, 0.927)),
        ("f1", 0.927, 0.76),
        *(("r", true, None) for true in (0.3, 0.8)),
        ("r", 0.8, 0.6),
        ("mae", 0.6, None),
        ("mae", 0.8, 0.6),
    ),
}
PEOPLE = {"scans": "12,20,30,60,120", "clustered": "7,12,30"}


@dataclass
class People:
    """Scans of some people, with the noise and the distances of one predictor or two."""

    subjects: np.ndarray
    labels: np.ndarray
    own: float  # variance of a person's mean, that of one scan being 1
    apart: float  # standard deviation of people's class distances, as a share of the distance
    rng: np.random.Generator

    @classmethod
    def draw(cls, design: str, count: int, rng: np.random.Generator) -> People:
        if design == "clustered":
            subjects = np.repeat(np.arange(count), WINDOWS)
            return cls(subjects, np.resize([0, 1], len(subjects)), MEAN_SD**2, APART_SD, rng)
        subjects = np.repeat(np.arange(count), rng.integers(1, 4, count))
        return cls(subjects, np.resize([0, 1], count)[subjects], 4.0, 0.0, rng)

    def of_person(self) -> np.ndarray:
        """A standard normal number per scan that a person's scans share."""
        return self.rng.normal(size=self.subjects.max() + 1)[self.subjects]

    def draws(self) -> np.ndarray:
        """Mean, class distance and noise of every scan, standard normal, shape (3, n)."""
        return np.stack(
            [self.of_person(), self.of_person(), self.rng.normal(size=len(self.subjects))]
        )

    def classify(self, true_auc: float, draws: np.ndarray) -> Answers:
        mean, apart, noise = draws
        distance = distance_of(true_auc, self.own, self.apart)
        scores = (self.labels - 0.5) * distance * (1 + self.apart * apart)
        positive = 1 / (1 + np.exp(-(scores + np.sqrt(self.own) * mean + noise)))
        return Answers(np.stack([1 - positive, positive], axis=1))


def distance_of(true_auc: float, own: float, apart: float) -> float:
    """Return the distance of the class means at which the scores of two people have this AUC."""
    z = norm.ppf(true_auc)
    return float(np.sqrt(2 * z**2 * (own + 1) / (1 - (z * apart) ** 2 / 2)))


def share_right(true_auc: float, people: People) -> float:
    """Return the true share of right answers: of each class, hence also F1."""
    distance = distance_of(true_auc, people.own, people.apart)
    spread = np.sqrt(people.own + 1 + (people.apart * distance / 2) ** 2)
    return float(norm.cdf(distance / 2 / spread))


def truth(metric: str, true: float, people: People) -> float:
    """Return the value of a metric over all people there could be."""
    if metric == "mae":  # of a residual with variance 1 - true**2
        return float(np.sqrt(2 / np.pi * (1 - true**2)))
    return true if metric in ("auc", "r") else share_right(true, people)


def covers(metric: str, true: float, other: float | None, people: People) -> Estimate:
    """Return the estimate of one data set minus the truth."""
    labels, draws = people.labels, people.draws()
    second = TOGETHER * draws + np.sqrt(1 - TOGETHER**2) * people.draws()
    if metric in ("r", "mae"):
        own = np.sqrt(people.own / (1 + people.own))
        whole = [own * d[0] + np.sqrt(1 - own**2) * d[2] for d in (people.draws(), draws, second)]
        labels = whole[0]
        values = [
            t * t * labels + t * np.sqrt(1 - t**2) * noise if metric == "mae" else
            t * labels + np.sqrt(1 - t**2) * noise
            for t, noise in zip((true, other or 0.0), whole[1:], strict=True)
        ]  # fmt: skip
        answers = {name: Answers(v[:, None], v) for name, v in zip("ab", values, strict=True)}
    else:
        answers = {"a": people.classify(true, draws)}
        answers["b"] = people.classify(other or 0.5, second)
    classes = [] if metric in ("r", "mae") else CLASSES
    known = truth(metric, true, people)
    if other is None:
        answers.pop("b")
    samples = score_samples(answers, labels, people.subjects, {metric: METRICS[metric]})
    if other is None:
        estimate = estimates(samples["a"], labels, people.subjects, classes)[metric]
    else:
        known -= truth(metric, other, people)
        estimate = differences(samples["a"], samples["b"], labels, people.subjects, classes)[metric]
    return Estimate(estimate.value - known, estimate.low - known, estimate.high - known)


def cell(design: str, case: tuple[str, float, float | None], count: int, sets: int) -> str:
    """Return coverage, misses on either side, mean width and the share without an interval."""
    metric, true, other = case
    rng = np.random.default_rng([count, int(1000 * true), len(metric), int(1000 * (other or 0))])
    drawn = [covers(metric, true, other, People.draw(design, count, rng)) for _ in range(sets)]
    low, high = np.array([(one.low, one.high) for one in drawn]).T
    has = ~np.isnan(low)
    if not has.any():
        return "no interval"
    held = 100 * ((low <= 0) & (high >= 0))[has].mean()
    below, above = 100 * (high < 0)[has].mean(), 100 * (low > 0)[has].mean()
    without = "" if has.all() else f"; none in {100 * (~has).mean():.1f}%"
    width = (high - low)[has].mean()
    return f"{held:.1f} ({below:.1f} below, {above:.1f} above; {width:.2f}{without})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--design", choices=CASES, help="only this one")
    parser.add_argument("--sets", type=int, default=1000, help="data sets per row")
    parser.add_argument("--people", help="comma-separated")
    parser.add_argument("--scores", default=",".join(METRICS), help="comma-separated")
    options = parser.parse_args()
    started = time.perf_counter()
    for design in [options.design] if options.design else CASES:
        sizes = [int(count) for count in (options.people or PEOPLE[design]).split(",")]
        print(f"\n{design}: coverage in % (misses; mean width)\n")
        print(f"| score | truth | {' | '.join(f'{count} people' for count in sizes)} |")
        print("|" + "---|" * (2 + len(sizes)))
        for case in CASES[design]:
            metric, true, other = case
            if metric not in options.scores.split(","):
                continue
            cells = [cell(design, case, count, options.sets) for count in sizes]
            name = metric.replace("_", " ") if other is None else f"{metric} difference"
            told = f"{true}" if other is None else f"{true} - {other}"
            print(f"| {name} | {told} | {' | '.join(cells)} |", flush=True)
    print(f"\n{options.sets} data sets each, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
