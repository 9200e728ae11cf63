"""What the planted effects look like in the scans, and what must change in people to get there.

A size d is planted as it can be measured: a pilot of people without effects gives the spread of
the measures on scans of this length and motion, and the model of the signal gives the change of
each measure per change of a person's true coupling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fmrilm.atlases.atlas import Atlas
from fmrilm.datasets.synthetic.effects import NETWORKS, Effect, planted_sizes
from fmrilm.datasets.synthetic.signal import (
    COUPLING_SD,
    PRIVATE,
    Person,
    Scanner,
    draw_fd,
    draw_mean_fd,
)
from fmrilm.descriptors.connectivity import block_means, correlation, fisher_z

PILOT = 100  # people
_UPPER = np.triu_indices(len(NETWORKS))  # the 36 pairs, networks with themselves included
_WITHIN = _UPPER[0] == _UPPER[1]


class Meter:
    """Measures of the networks on one scan after the other.

    Volumes with a spike are kept, as a user would have them.
    """

    def __init__(self, atlas: Atlas) -> None:
        self.members = np.array(
            [[name == network for name in atlas.networks] for network in NETWORKS], np.float32
        )  # (8, n_rois)
        self._values: dict[str, list[np.ndarray]] = {}

    def measure(self, raw: np.ndarray) -> None:
        """Add the first scan of a person, shape (n_rois, n_timepoints)."""
        median = np.median(raw, axis=1, keepdims=True)
        centred = raw - median
        centred -= centred.mean(1, keepdims=True)
        power = np.abs(np.fft.rfft(centred, axis=1)) ** 2
        half = power[:, 1:].shape[1] // 8  # below about 0.03 Hz at TR 2 s
        measures = {
            "connectivity": block_means(fisher_z(correlation(centred)), self.members),
            "amplitude": self._mean(np.log(centred.std(1) / np.abs(median[:, 0]))),
            "spectrum": self._mean(
                np.log(power[:, 1 : half + 1].sum(1) / power[:, half + 1 :].sum(1))
            ),
        }
        for kind, values in measures.items():
            self._values.setdefault(kind, []).append(values)

    def values(self, kind: str) -> np.ndarray:
        """Return all measures of a kind, shape (n_scans, 8, 8) (connectivity) or (n_scans, 8)."""
        return np.array(self._values[kind])

    def _mean(self, regions: np.ndarray) -> np.ndarray:
        return self.members @ regions / self.members.sum(1)


def measured_d(
    effect: Effect, meter: Meter, scores: dict[str, np.ndarray], site: pd.Series
) -> float:
    """Return the size of a planted effect as it is found on the scans."""
    where = tuple(NETWORKS.index(name) for name in effect.networks)
    values = np.array([scan[where] for scan in meter.values(effect.kind)])
    return effect_size(values, effect.phenotype, scores, site)


def effect_size(
    values: np.ndarray, phenotype: str, scores: dict[str, np.ndarray], site: pd.Series
) -> float:
    """Return d of one measure: residual SDs per unit of a phenotype.

    All phenotypes and the sites are in one linear model.

    Parameters
    ----------
    values : ndarray, shape (n_people,)
    phenotype : str
        One of ``scores``.
    scores : dict of str to ndarray
    site : Series
    """
    design = np.column_stack([*scores.values(), pd.get_dummies(site)]).astype(float)
    weights, *_ = np.linalg.lstsq(design, values, rcond=None)
    free = max(len(values) - design.shape[1], 1)
    residual = np.sqrt(((values - design @ weights) ** 2).sum() / free)
    return round(float(weights[list(scores).index(phenotype)] / residual), 3)


@dataclass(frozen=True)
class Planting:
    """How far the true properties of a person move so that a measure moves by one SD."""

    coupling: np.ndarray  # (36, 36): of every pair of networks, per SD of every measured pair
    amplitude: float
    spectrum: float

    @classmethod
    def calibrate(cls, scanner: Scanner, atlas: Atlas, fd: float) -> Planting:
        """Return what holds for scans of this scanner at a median framewise displacement ``fd``.

        The pilot is the same whatever the seed of a cohort.
        """
        rng = np.random.default_rng(PILOT)
        meter, people, spikes = Meter(atlas), [], []
        for _ in range(PILOT):
            person = Person.draw({}, len(atlas), scanner.signal, rng)
            mean_fd = float(draw_mean_fd(fd, rng))
            motion = draw_fd(mean_fd, scanner.n_timepoints, rng)
            clean = scanner.scan(person, rng)
            clean = clean + scanner.global_signal(
                float(person.slope.mean()), mean_fd / fd if fd else 1.0, rng
            )
            meter.measure(scanner.intensities(clean, (1.0, 0.0), motion, rng))
            people.append(person)
            spikes.append(scanner.spikes(motion).var())
        spread = np.array([scan[_UPPER] for scan in meter.values("connectivity")]).std(
            axis=0, ddof=1
        )
        # one SD for all pairs within, one for all between: they hardly differ, their estimates do
        spread = np.where(_WITHIN, spread[_WITHIN].mean(), spread[~_WITHIN].mean())
        slopes = _coupling_slopes(scanner, meter.members, float(np.mean(spikes)))
        return cls(
            np.linalg.solve(slopes, np.diag(spread)),
            1 / _agreement([person.log_amplitude for person in people], meter.values("amplitude")),
            1 / _agreement([person.slope for person in people], meter.values("spectrum")),
        )

    def shifts(self, scores: dict[str, float]) -> dict[str, np.ndarray]:
        """Return the shifts of one person's true properties, for :meth:`Person.draw`."""
        coupling = np.zeros((len(NETWORKS), len(NETWORKS)))
        coupling[_UPPER] = self.coupling @ planted_sizes(scores, "connectivity")[_UPPER]
        return {
            "connectivity": coupling + np.triu(coupling, 1).T,
            "amplitude": self.amplitude * planted_sizes(scores, "amplitude"),
            "spectrum": self.spectrum * planted_sizes(scores, "spectrum"),
        }


def _coupling_slopes(scanner: Scanner, members: np.ndarray, spikes: float) -> np.ndarray:
    """Return the change of every measured pair (rows) per SD of every true coupling (columns)."""

    def pairs(coupling: np.ndarray) -> np.ndarray:
        expected = scanner.expected_correlation(coupling, spikes)
        return block_means(fisher_z(expected), members)[_UPPER]

    neutral, slopes = PRIVATE * np.eye(len(NETWORKS)), []
    for a, b in zip(*_UPPER, strict=True):
        step = np.zeros_like(neutral)
        step[a, b] = step[b, a] = COUPLING_SD
        slopes.append((pairs(neutral + step) - pairs(neutral - step)) / 2)
    return np.column_stack(slopes)


def _agreement(true: list[np.ndarray], measured: np.ndarray) -> float:
    """Return the correlation of true and measured values over people, mean over the networks."""
    z_true, z_measured = (
        (values - values.mean(0)) / values.std(0) for values in (np.array(true), measured)
    )
    return float((z_true * z_measured).mean())
