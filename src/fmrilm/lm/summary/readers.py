"""Readers: penalised linear models of a question's answer, one per signal family, stacked.

They are fitted in closed form on training people. Every family gets its own ridge regression
(penalty by cross-validation over people), families are weighted by how well they predict people
they were not fitted on, and those at chance are dropped: with equal weights, the numbers of the
families that carry nothing drown the one that does. The sum is calibrated on out-of-fold scores.

Letters: n scans, D numbers of a scan, k outputs (1 for two answers or a number, else one each).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FOLDS = 8
PENALTIES = np.array([1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0])  # per number of a family, variance 1
CHANCE = 1.64  # standard errors of a correlation below which a family is dropped


@dataclass(frozen=True)
class Reader:
    """A fitted reader.

    Attributes
    ----------
    weights : ndarray, shape (D, k)
    bias : ndarray, shape (k,)
    held_out : ndarray, shape (n, k)
        What it says of each training scan when the person's scans are left out.
    scale : (float, float)
        Mean and SD of a number, which is predicted in units of the SD; (0, 1) for answers.
    shares : dict of str to float
        How much of what it says comes from each family; they sum to 1, or all are 0.
    """

    weights: np.ndarray
    bias: np.ndarray
    held_out: np.ndarray
    shares: dict[str, float]
    scale: tuple[float, float] = (0.0, 1.0)


def fit_reader(
    numbers: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    families: Mapping[str, list[slice]],
    is_class: bool = True,
) -> Reader:
    """Fit a reader.

    Parameters
    ----------
    numbers : ndarray, shape (n, D)
    target : ndarray, shape (n, k)
        0 or 1 for each answer; or values.
    groups : ndarray of int, shape (n,)
        Who belongs together (person, family): left out together.
    families : mapping of str to list of slice
        Columns of every family, one slice per reader.
    is_class : bool
        Outputs are calibrated to log-odds; else to standard deviations of ``target``.
    """
    n, k = target.shape
    scale = (0.0, 1.0) if is_class else (float(target.mean()), max(float(target.std()), 1e-9))
    target = (target - scale[0]) / scale[1]
    weights, bias = np.zeros((numbers.shape[1], k)), np.zeros(k)
    held_out, shares = np.zeros((n, k)), dict.fromkeys(families, 0.0)
    folds = _folds(groups)
    y = target - target.mean(0)
    total = np.zeros((n, k))
    parts: dict[str, float] = dict.fromkeys(families, 0.0)
    for name, slices in families.items():
        for columns in slices:
            own, outside = _ridge(numbers[:, columns].astype(np.float64), y, folds)
            for j in range(k):
                weight = _worth(outside[:, j], y[:, j], len(np.unique(groups)))
                spread = outside[:, j].std()
                if weight == 0 or spread == 0:
                    continue
                total[:, j] += weight * outside[:, j] / spread
                weights[columns, j] += weight * own[:, j] / spread
                parts[name] += weight
    bias -= (numbers @ weights).mean(0)
    for j in range(k):
        slope, intercept = _calibrate(total[:, j], target[:, j], is_class)
        weights[:, j] *= slope
        bias[j] = slope * bias[j] + intercept
        held_out[:, j] = slope * total[:, j] + intercept
    whole = sum(parts.values())
    if whole:
        shares = {name: part / whole for name, part in parts.items()}
    return Reader(weights, bias, held_out, shares, scale)


def _folds(groups: np.ndarray) -> list[np.ndarray]:
    """Scans of every fold; the scans of a group are in one."""
    unique, index = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(unique))
    fold = order[index] % min(FOLDS, len(unique))
    return [np.flatnonzero(fold == f) for f in np.unique(fold)]


def _ridge(x: np.ndarray, y: np.ndarray, folds: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ridge weights (numbers, k) on all scans, and the scores (n, k) of left-out people."""
    n, width = x.shape
    x = x - x.mean(0)
    gram = x @ x.T / width
    scores = np.zeros((len(PENALTIES), *y.shape))
    for out in folds:
        kept = np.setdiff1d(np.arange(n), out)
        mean = y[kept].mean(0)
        centre = gram[np.ix_(kept, kept)].mean(0)
        inner = gram[np.ix_(kept, kept)] - centre - centre[:, None] + centre.mean()
        values, vectors = np.linalg.eigh(inner)
        spun = vectors.T @ (y[kept] - mean)
        across = gram[np.ix_(out, kept)] - gram[np.ix_(out, kept)].mean(1, keepdims=True)
        across = (across - centre + centre.mean()) @ vectors
        for p, penalty in enumerate(PENALTIES):
            scores[p, out] = across @ (spun / (values.clip(0) + penalty)[:, None])
    errors = ((y - scores) ** 2).mean((1, 2))
    best = int(errors.argmin())
    values, vectors = np.linalg.eigh(gram)
    dual = vectors @ ((vectors.T @ y) / (values.clip(0) + PENALTIES[best])[:, None])
    return x.T @ dual / width, scores[best]


def _worth(score: np.ndarray, target: np.ndarray, people: int) -> float:
    """The squared correlation with the target; 0 where chance could have done as well."""
    if score.std() == 0 or target.std() == 0:
        return 0.0
    r = float(np.corrcoef(score, target)[0, 1])
    return r**2 if r > CHANCE / np.sqrt(people) else 0.0


def _calibrate(score: np.ndarray, target: np.ndarray, is_class: bool) -> tuple[float, float]:
    """Slope and intercept that make log-odds, or values, of a score."""
    if score.std() == 0:
        mean = float(target.mean())
        chance = np.clip(mean, 0.01, 0.99)
        return 0.0, float(np.log(chance / (1 - chance))) if is_class else mean
    if not is_class:
        slope, intercept = np.polyfit(score, target, 1)
        return float(slope), float(intercept)
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=10.0).fit(score[:, None] / score.std(), target > 0.5)
    return float(model.coef_[0, 0] / score.std()), float(model.intercept_[0])
