"""Effects that connectivity shows, and effects that it cannot show, for ``simulate --effect``.

Beside the signal of :mod:`fmrilm.datasets.synthetic.signal`, the networks carry time courses with
properties that differ between people: how strongly two networks share one, who leads whom, how fast
their coupling changes its sign, which way round time runs, how bursty a course is. In everybody all
five differ at random; of a named effect the mean also differs between the two groups. Flipping the
sign of a latency, turning a course round in time, or changing the length of balanced dwells
leaves every zero-lag covariance as it was: functional connectivity is at chance by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fmrilm.datasets.synthetic.effects import NETWORKS
from fmrilm.datasets.synthetic.signal import T_R, Scanner
from fmrilm.registry import Registry

Pairs = tuple[tuple[str, str], ...]
GROUP_D = 4.0  # of the true property, in standard deviations over people
LOADING = 0.5  # of a region on the courses of its network, in standard deviations of the rest
LOADING_SD = 0.4  # of that over regions and people, as a share
LATENCY_SD = 0.3  # seconds, of the single regions of a person around their network's
SLOPE = (1.0, 0.3)  # of the courses' spectra, mean and SD over people
FLIPS = 0.2  # changes of sign per volume in a network whose coupling switches
BURN_IN = 40  # volumes before the first that is kept


@dataclass(frozen=True)
class Dynamics:
    """One kind of effect: the networks that carry it, and what is measured to find it.

    Parameters
    ----------
    networks : tuple of pairs of str
        Every pair carries courses of its own.
    draw : callable
        (property in SDs, random generator, time points, latencies) -> the two networks' courses;
        ``latencies`` (n, 2) of the regions are used by the kind that shifts time.
    measure : callable
        (mean series of both networks (2, T)) -> the number that the effect moves.
    """

    networks: Pairs
    draw: Callable[[float, np.random.Generator, int], np.ndarray]
    measure: Callable[[np.ndarray], float]
    loading: float = 1.0  # as LOADING, in both groups, where this is the named effect


DYNAMICS: Registry[Dynamics] = Registry("effect")
MIXED = "mixed"  # half of two effects: either alone tells little
MIXTURE = {"lag": 0.6, "reversal": 0.6}


def coloured(rng: np.random.Generator, rows: int, length: int, slope: float) -> np.ndarray:
    """Return Gaussian series (rows, length) of variance 1 with a 1/f spectrum, 0.01 to 0.1 Hz."""
    count = 2 * length
    f = np.fft.rfftfreq(count, T_R)
    f[0] = f[1]
    power = f**-slope / (1 + (0.01 / f) ** 8) / (1 + (f / 0.1) ** 8)
    power[0] = 0
    spectrum = rng.standard_normal((rows, len(f), 2)) @ np.array([1, 1j])
    series = np.fft.irfft(spectrum * np.sqrt(power / (4 * power.sum())) * count, n=count, axis=1)
    return series[:, :length]


def shift(series: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Return a course (T,) delayed by each of ``seconds`` (n,), shape (n, T)."""
    f = np.fft.rfftfreq(len(series), T_R)
    turned = np.fft.rfft(series) * np.exp(-2j * np.pi * f * seconds[:, None])
    return np.fft.irfft(turned, n=len(series), axis=1)


def _unit(series: np.ndarray) -> np.ndarray:
    centred = series - series.mean(-1, keepdims=True)
    return centred / np.maximum(centred.std(-1, keepdims=True), 1e-9)


def _slope(rng: np.random.Generator) -> float:
    return float(SLOPE[0] + SLOPE[1] * rng.standard_normal())


def _shared(p: float, rng: np.random.Generator, length: int) -> np.ndarray:
    """Two courses whose correlation is tanh of the property."""
    r = np.tanh(0.3 * p)
    a, b = coloured(rng, 2, length, _slope(rng))
    return np.stack([a, r * a + np.sqrt(1 - r**2) * b])


def _leading(p: float, rng: np.random.Generator, length: int) -> np.ndarray:
    """The first network leads the second by 0.6 s per SD."""
    (course,) = coloured(rng, 1, length, _slope(rng))
    return shift(course, np.array([-0.3, 0.3]) * p)


def _switching(p: float, rng: np.random.Generator, length: int) -> np.ndarray:
    """One course with signs that change in both networks, their product every 7 volumes.

    That is at p = 0. Either network alone changes its sign equally often whatever p is: where the
    product changes seldom, both change at once. Spectra therefore do not show it.
    """
    (course,) = coloured(rng, 1, length, _slope(rng))
    dwell = max(7.0 * np.exp(0.5 * p), 1 / (2 * FLIPS))
    flips = np.zeros((2, length), dtype=bool)
    at, stays = 0, [int(rng.integers(1, 1 + max(2, round(dwell))))]
    while at + stays[0] < length:  # each sign as long as the one before: none prevails
        at += stays.pop(0)
        flips[rng.integers(2), at] = True
        if not stays:
            stays = [max(1, round(dwell * rng.uniform(0.6, 1.4)))] * 2
    flips ^= rng.random(length) < FLIPS - 1 / (2 * dwell)
    signs = np.where(flips.cumsum(1) % 2 == 1, -1.0, 1.0) * rng.choice([-1, 1], (2, 1))
    return signs * course


def _turned(p: float, rng: np.random.Generator, length: int) -> np.ndarray:
    """Events that rise fast and fade slowly, or the other way round; p: how many of each."""
    forward = 0.5 * (1 + np.tanh(0.45 * p))
    kernel = np.exp(-np.arange(BURN_IN) / rng.uniform(3.0, 5.0))
    courses = []
    for _ in range(2):
        events = (rng.random(length + 2 * BURN_IN) < 0.12) * rng.exponential(
            1, length + 2 * BURN_IN
        )
        is_forward = rng.random(len(events)) < forward
        onward = np.convolve(events * is_forward, kernel)[: len(events)]
        back = np.convolve((events * ~is_forward)[::-1], kernel)[: len(events)][::-1]
        courses.append((onward + back)[BURN_IN : BURN_IN + length])
    return _unit(np.stack(courses))


def _bursting(p: float, rng: np.random.Generator, length: int) -> np.ndarray:
    """Courses whose size waxes and wanes over half a minute, the more the larger p."""
    size = 0.6 * np.exp(0.35 * p)
    courses = coloured(rng, 2, length, _slope(rng))
    envelope = np.exp(size * _unit(coloured(rng, 2, length, 2.0)))
    return _unit(courses * envelope)


def _correlation(pair: np.ndarray) -> float:
    return float((pair[0] * pair[1]).mean())


def _lead(pair: np.ndarray) -> float:
    a, b = pair
    return float(sum((a[:-k] * b[k:]).mean() - (b[:-k] * a[k:]).mean() for k in (1, 2)))


def _dwell(pair: np.ndarray) -> float:
    total = 0.0
    for k in (1, 2, 4):  # how a course moves does not depend on its sign, while the sign lasts
        a, b = _unit(pair[:, k:] * pair[:, :-k])
        total += float((a * b).mean())
    return total


def _asymmetry(pair: np.ndarray) -> float:
    return float(sum((np.diff(pair, n=1)[:, :] ** 3).mean(1) / (np.diff(pair) ** 2).mean(1) ** 1.5))


def _burstiness(pair: np.ndarray) -> float:
    power = pair**2
    power = _unit(np.minimum(power, np.quantile(power, 0.99)))
    return float(
        sum(np.log((pair**4).mean(1))) + sum((power[:, :-k] * power[:, k:]).mean() for k in (2, 4))
    )


for _name, _dynamics in {
    "fc": Dynamics((("SomMot", "Cont"), ("Vis", "SalVentAttn")), _shared, _correlation),
    "lag": Dynamics((("SomMot", "DorsAttn"), ("Vis", "Default")), _leading, _lead),
    "switching": Dynamics(
        (("Cont", "Default"), ("DorsAttn", "Vis"), ("SomMot", "SalVentAttn")),
        _switching,
        _dwell,
        1.25,
    ),
    "reversal": Dynamics((("SomMot", "Cont"), ("Default", "SalVentAttn")), _turned, _asymmetry),
    "burst": Dynamics((("Vis", "SomMot"), ("DorsAttn", "Cont")), _bursting, _burstiness),
}.items():
    DYNAMICS.register(_name)(_dynamics)


def group_sizes(effect: str) -> dict[str, float]:
    """Return by how many SDs the groups differ in each property, for the name of an effect."""
    if effect == MIXED:
        return {name: share * GROUP_D for name, share in MIXTURE.items()}
    DYNAMICS[effect]  # an unknown name is an error with a suggestion
    return {effect: GROUP_D}


def draw_properties(
    effect: str, positive: bool, rng: np.random.Generator, size: float = 1.0
) -> dict[str, float]:
    """Return a person's properties in SDs: random, and moved by half the groups' difference.

    ``size`` scales the difference.
    """
    sizes = group_sizes(effect)
    half = 0.5 * size if positive else -0.5 * size
    return {name: float(rng.standard_normal()) + half * sizes.get(name, 0.0) for name in DYNAMICS}


def oracle_auc(measures: Sequence[dict[str, float]], labels: pd.Series) -> dict[str, float]:
    """Return how well each measure, read where it was planted, tells the groups (AUC)."""
    from scipy.stats import rankdata

    positive = labels.to_numpy() == 1
    pairs = positive.sum() * (~positive).sum()

    def auc(values: np.ndarray) -> float:
        ranks = rankdata(values)[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
        return round(float(ranks / pairs), 3)

    return {name: auc(np.array([scan[name] for scan in measures])) for name in DYNAMICS}


def add_dynamics(
    series: np.ndarray,
    scanner: Scanner,
    properties: dict[str, float],
    effect: str,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return clean series (n_rois, T) with the courses of a person's networks added."""
    total = series.astype(np.float64)
    length, named = series.shape[1], group_sizes(effect)
    for name, dynamics in DYNAMICS.items():
        for pair in dynamics.networks:
            courses = dynamics.draw(properties[name], rng, length + 2 * BURN_IN)
            for network, course in zip(pair, courses, strict=True):
                members = np.flatnonzero(scanner.network == NETWORKS.index(network))
                size = dynamics.loading if name in named else LOADING
                loading = size * (1 + LOADING_SD * rng.standard_normal(len(members)))
                late = shift(course, LATENCY_SD * rng.standard_normal(len(members)))
                total[members] += loading[:, None] * late[:, BURN_IN : BURN_IN + length]
    return total.astype(np.float32)


def measure_dynamics(series: np.ndarray, network: np.ndarray) -> dict[str, float]:
    """Return the measure of every kind of effect, read where it was planted.

    Parameters
    ----------
    series : ndarray, shape (n_rois, T)
    network : ndarray of int, shape (n_rois,)
        Position of every region's network in :data:`NETWORKS`.
    """
    z = _unit(series)
    means = _unit(np.stack([z[network == k].mean(0) for k in range(len(NETWORKS))]))
    return {
        name: sum(
            dynamics.measure(means[[NETWORKS.index(a), NETWORKS.index(b)]])
            for a, b in dynamics.networks
        )
        for name, dynamics in DYNAMICS.items()
    }
