"""Scales on which the error of a score is nearly normal, so that a t interval holds its truth.

A share of right answers is skewed near 1, where it cannot go up; a correlation near both ends; an
error near 0. ``benchmarks/intervals.py`` measures how often the intervals hold the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scale:
    """A monotone function of a score, its inverse, and the ends between which scores lie.

    Where an end is reached the function is infinite: scores are kept a ``margin`` (set by the
    number of scans) inside of it.
    """

    forward: Function
    back: Function
    low: float = -np.inf
    high: float = np.inf
    relative: bool = False  # the margin is a share of the range: half a scan, or a pair

    def clip(self, scores: np.ndarray, margin: float) -> np.ndarray:
        """Return the scores, those at an end moved inside."""
        width = margin if self.relative else 1e-12
        return np.clip(scores, self.low + width, self.high - width)


def _inverse_log_log(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.exp(-np.clip(x, -700, 700)))


def _normal(x: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return np.asarray(ndtr(x))


def _probit(p: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri

    return np.asarray(ndtri(p))


PLAIN = Scale(lambda x: x, lambda x: x)
SHARE = Scale(lambda p: -np.log(-np.log(p)), _inverse_log_log, 0.0, 1.0, relative=True)
PROBIT = Scale(_probit, _normal, 0.0, 1.0, relative=True)
FISHER = Scale(np.arctanh, np.tanh, -1.0, 1.0)
LOSS = Scale(np.log, lambda x: np.exp(np.clip(x, -700, 700)), 0.0)
EXPLAINED = Scale(lambda r2: -np.log1p(-r2), lambda x: -np.expm1(-x), high=1.0)

_NAMES = {
    SHARE: (
        *("auc", "balanced_accuracy", "accuracy", "f1", "pr_auc", "sensitivity", "specificity"),
        *("direction", "deviation", "z_near", "supported", "contradicted", "unverifiable"),
    ),
    FISHER: ("r", "spearman", "mcc", "quadratic_kappa", "z_r"),
    LOSS: ("mae", "rmse", "log_loss", "brier", "ece"),
    EXPLAINED: ("r2",),
}
_SCALES = {name: scale for scale, names in _NAMES.items() for name in names}


def scale_of(metric: str, paired: bool = False) -> Scale:
    """Return the scale of a metric, the plain one where none is known to be better.

    Parameters
    ----------
    metric : str
    paired : bool
        For the difference of two scores. That of two shares is held more often by the probit scale,
        a single share by the log-log scale (guide/evaluation.md).
    """
    scale = _SCALES.get(metric, PLAIN)
    return PROBIT if paired and scale is SHARE else scale
