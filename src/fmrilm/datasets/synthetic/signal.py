"""Synthetic BOLD series with the covariance, spectrum and individual differences of real ones.

A scan is the sum of (1) a part with the group's covariance, (2) one private time course per
network, mixed between the networks by a symmetric 8 x 8 matrix of the person: this is where
coupling differs between people and where effects are planted, (3) a few time courses with the
person's own region loadings, the fingerprint. All are drawn as complex Gaussians in the frequency
domain, shaped by a 1/f spectrum within 0.01-0.1 Hz, and lie on a white noise floor.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fmrilm.atlases.atlas import Atlas
from fmrilm.datasets.synthetic.effects import NETWORKS
from fmrilm.registry import Registry

T_R = 2.0  # seconds
PRIVATE = 0.5  # loading of a network on its own time course
COUPLING_SD = 0.1  # of the mixing between two networks, over people
SESSION_SHARE = 0.4  # of that, how much changes from one session to the next
AMPLITUDE_SD = 0.15  # of the log size of the fluctuation
SLOPE_SD = 0.2  # of the exponent of the 1/f spectrum, over people
BAND = (0.01, 0.1)  # Hz
NOISE_FLOOR = 0.15  # share of the variance that is white
BASELINE = 10_000.0  # image intensity around which the signal moves
SIGNAL = 80.0  # standard deviation of a region in the same units, 0.8%
FD_SD = 0.35  # of the log mean framewise displacement, over people
SPIKE_LOADING_SD = 0.5  # over regions, around 1
GLOBAL_SD = 0.5  # of the log size of the global signal, over people
GLOBAL_LOADING_SD = 0.3  # over regions, around 1
_GROUP_FC = "schaefer_400_mean_connectivity_matrix.csv"


@dataclass(frozen=True)
class Signal:
    """How a scan is made up, where simulators differ; sizes in standard deviations of a region.

    Parameters
    ----------
    slope : float
        Exponent of the 1/f spectrum, mean over people.
    fingerprint : (int, float)
        Time courses with loadings of the person's own, and the size of the loadings.
    spike : float
        Of a jump, per mm.
    global_signal : float
        Shared by all regions; it grows with how much a person moves (breathing does both).
    global_motion : float
        Exponent of that growth: size goes with (mean FD / its median) to this power.
    """

    slope: float
    fingerprint: tuple[int, float]
    spike: float
    global_signal: float = 0.0
    global_motion: float = 0.0

    @property
    def variance(self) -> float:
        """Of a region before the global signal and noise, about."""
        return 1 + PRIVATE**2 + self.fingerprint[0] * self.fingerprint[1] ** 2


SIGNALS: Registry[Signal] = Registry("signal")
SIGNALS.register("first")(Signal(1.0, (8, 0.2), 1.5))  # of cohorts made before there was a second
SIGNALS.register("second")(Signal(2.1, (4, 0.6), 0.15, 0.35, 0.35))


@dataclass(frozen=True)
class Person:
    """The true properties of one person, in the order of :data:`NETWORKS`."""

    coupling: np.ndarray  # (8, 8) symmetric
    log_amplitude: np.ndarray  # (8,)
    slope: np.ndarray  # (8,)
    fingerprint: np.ndarray  # (n_rois, k)

    @classmethod
    def draw(
        cls, shifts: dict[str, np.ndarray], n_rois: int, signal: Signal, rng: np.random.Generator
    ) -> Person:
        """Return a person; ``shifts`` (kind -> SDs of the true property) are planted effects."""
        count, (courses, loading) = len(NETWORKS), signal.fingerprint
        coupling = symmetric_noise(rng) + shifts.get("connectivity", 0)
        amplitude = rng.standard_normal(count) + shifts.get("amplitude", 0)
        slope = rng.standard_normal(count) + shifts.get("spectrum", 0)
        return cls(
            PRIVATE * np.eye(count) + COUPLING_SD * coupling,
            AMPLITUDE_SD * amplitude,
            signal.slope + SLOPE_SD * slope,
            loading * rng.standard_normal((n_rois, courses)),
        )


def symmetric_noise(rng: np.random.Generator) -> np.ndarray:
    """Return a symmetric (8, 8) matrix of standard normal numbers."""
    upper = np.triu(rng.standard_normal((len(NETWORKS), len(NETWORKS))))
    return upper + np.triu(upper, 1).T


class Scanner:
    """Draws scans of people in one parcellation.

    Parameters
    ----------
    atlas : Atlas
        Its networks are those of :data:`NETWORKS`.
    covariance : ndarray, shape (n_rois, n_rois)
        Correlations of the group.
    n_timepoints : int
    signal : Signal
    """

    def __init__(
        self, atlas: Atlas, covariance: np.ndarray, n_timepoints: int, signal: Signal
    ) -> None:
        self.n_timepoints = n_timepoints
        self.signal = signal
        self.network = np.array([NETWORKS.index(name) for name in atlas.networks])
        self._mixing = np.linalg.cholesky(covariance).astype(np.float32)
        # properties of the regions, the same in every cohort and for every seed
        regions = np.random.default_rng(450)
        self._weight = np.exp(0.3 * regions.standard_normal(len(atlas))).astype(np.float32)
        self._baseline = BASELINE + 1500 * regions.standard_normal(len(atlas))
        # twice the length is drawn and cut, so that the end of a scan does not meet its start
        self._frequency = np.fft.rfftfreq(2 * n_timepoints, T_R)

    def scan(self, person: Person, rng: np.random.Generator) -> np.ndarray:
        """Return the clean series of one session, shape (n_rois, n_timepoints), SD about 1."""
        n_rois, bins = len(self.network), len(self._frequency)

        def draw(rows: int) -> np.ndarray:
            return rng.standard_normal((rows, 2 * bins), dtype=np.float32)

        coupling = person.coupling + COUPLING_SD * SESSION_SHARE * symmetric_noise(rng)
        private = coupling.astype(np.float32) @ draw(len(NETWORKS))
        mixed = self._mixing @ draw(n_rois) + self._weight[:, None] * private[self.network]
        fingerprint = person.fingerprint.astype(np.float32)
        mixed += fingerprint @ draw(fingerprint.shape[1])
        spectrum = mixed[:, :bins] + 1j * mixed[:, bins:]
        gain = np.stack([self._gain(slope) for slope in person.slope]).astype(np.float32)
        series = np.fft.irfft(spectrum * gain[self.network], n=2 * self.n_timepoints, axis=1)
        series = series[:, : self.n_timepoints] / np.sqrt(self.signal.variance)
        noise = rng.standard_normal(series.shape, dtype=np.float32)
        series = np.sqrt(1 - NOISE_FLOOR) * series + np.sqrt(NOISE_FLOOR) * noise
        return series * np.exp(person.log_amplitude)[self.network, None]

    def _gain(self, slope: float) -> np.ndarray:
        """Return the amplitude per frequency that gives a series of variance 1."""
        low, high = BAND
        f = np.maximum(self._frequency, self._frequency[1])
        power = f**-slope / (1 + (low / f) ** 8) / (1 + (f / high) ** 8)
        power[0] = 0
        # irfft of independent complex bins of variance 2: each counts twice, over n squared
        n = 2 * self.n_timepoints
        return np.sqrt(power / (4 * power.sum())) * n

    def expected_correlation(self, coupling: np.ndarray, spikes: float) -> np.ndarray:
        """Return the correlations of an endless scan of people around a coupling.

        Parameters
        ----------
        coupling : ndarray, shape (8, 8)
        spikes : float
            Variance of what motion adds.
        """
        individual = COUPLING_SD**2 * (1 + SESSION_SHARE**2) * len(coupling)
        private = coupling @ coupling + individual * np.eye(len(coupling))
        matrix = self._mixing @ self._mixing.T
        matrix += np.outer(self._weight, self._weight) * private[self.network][:, self.network]
        diagonal = np.diag_indices_from(matrix)
        courses, loading = self.signal.fingerprint
        matrix[diagonal] += courses * loading**2
        matrix *= (1 - NOISE_FLOOR) / self.signal.variance
        matrix += spikes + self._global_variance
        matrix[diagonal] += NOISE_FLOOR + spikes * SPIKE_LOADING_SD**2
        scale = np.sqrt(matrix[diagonal])
        return matrix / np.outer(scale, scale)

    @property
    def _global_variance(self) -> float:
        """Of the global signal, mean over people who move as much as most."""
        return self.signal.global_signal**2 * float(np.exp(2 * GLOBAL_SD**2))

    def global_signal(
        self, slope: float, motion: float, rng: np.random.Generator
    ) -> np.ndarray | float:
        """Return what all regions share, shape (n_rois, n_timepoints); 0 where there is none.

        Parameters
        ----------
        slope : float
            Of the person's spectrum.
        motion : float
            Mean framewise displacement, in units of the cohort's median.
        rng : numpy.random.Generator
        """
        if not self.signal.global_signal:
            return 0.0
        bins = len(self._frequency)
        spectrum = rng.standard_normal((bins, 2)) @ np.array([1, 1j]) * self._gain(slope)
        course = np.fft.irfft(spectrum, n=2 * self.n_timepoints)[: self.n_timepoints]
        size = self.signal.global_signal * motion**self.signal.global_motion
        size *= np.exp(GLOBAL_SD * rng.standard_normal())
        loading = 1 + GLOBAL_LOADING_SD * rng.standard_normal(len(self.network))
        return (size * loading[:, None] * course).astype(np.float32)

    def spikes(self, fd: np.ndarray) -> np.ndarray:
        """Return the size of the spike in every volume, in standard deviations of a region."""
        return self.signal.spike * np.where(fd > 0.5, fd, 0)

    def intensities(
        self,
        series: np.ndarray,
        site: tuple[float, float],
        fd: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return image intensities: baseline, site scale and offset, a spike where the head moved.

        Parameters
        ----------
        series : ndarray, shape (n_rois, n_timepoints)
        site : tuple of float
            Factor and offset of the scanner.
        fd : ndarray, shape (n_timepoints,)
            Framewise displacement in mm.
        """
        loading = 1 + SPIKE_LOADING_SD * rng.standard_normal(len(series))
        spikes = loading[:, None] * self.spikes(fd) * rng.choice([-1, 1], len(fd))
        raw = self._baseline[:, None] + SIGNAL * (series + spikes)
        return (site[0] * raw + site[1]).astype(np.float32)


def draw_mean_fd(median: float, rng: np.random.Generator, size: int | None = None) -> np.ndarray:
    """Return the mean framewise displacement of people, in mm."""
    return median * np.exp(FD_SD * rng.standard_normal(size))


def draw_fd(mean: float, timepoints: int, rng: np.random.Generator) -> np.ndarray:
    """Return framewise displacement with rare jumps, about ``mean`` mm on average."""
    fd = 0.8 * mean * np.exp(0.4 * rng.standard_normal(timepoints) - 0.08)
    jumps = rng.random(timepoints) < 0.2 * mean
    fd[jumps] += rng.uniform(0.5, 1.5, jumps.sum())
    fd[0] = 0
    return fd


def group_covariance(atlas: Atlas) -> tuple[np.ndarray, str]:
    """Return correlations of the regions, and in words where they come from.

    Built from networks and distances; the block of the 400 cortical regions is the mean of HCP
    subjects where the package ``brainspace`` is installed.
    """
    matrix, source = _structured(atlas), "network structure of the region table"
    path = _brainspace_matrix()
    cortex = np.array(atlas.networks) != "Subcortex"
    if path is not None and cortex.sum() == 400:
        matrix[np.ix_(cortex, cortex)] = np.loadtxt(path, delimiter=",")
        source = "group connectivity of HCP subjects (package brainspace)"
    values, vectors = np.linalg.eigh(matrix)
    matrix = (vectors * np.maximum(values, 0.05)) @ vectors.T
    scale = np.sqrt(np.diag(matrix))
    return matrix / np.outer(scale, scale), source


def _structured(atlas: Atlas) -> np.ndarray:
    network = np.array(atlas.networks)
    same = network[:, None] == network[None]
    distance = np.linalg.norm(atlas.centroids[:, None] - atlas.centroids[None], axis=-1)
    twin = np.linalg.norm(atlas.centroids[:, None] * [-1, 1, 1] - atlas.centroids[None], axis=-1)
    matrix = 0.12 + 0.18 * same + 0.25 * np.exp(-distance / 25) + 0.2 * np.exp(-twin / 12)
    np.fill_diagonal(matrix, 1)
    return np.minimum(matrix, 1)


def _brainspace_matrix() -> Path | None:
    try:
        names = importlib.metadata.files("brainspace") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for name in names:
        if name.name == _GROUP_FC and name.parent.name == "main_group":
            return Path(str(name.locate()))
    return None
