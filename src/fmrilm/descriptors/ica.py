"""Family ``ica``: independent components of the group, and their time courses in a scan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fmrilm.descriptors.base import DESCRIPTORS, Descriptor
from fmrilm.descriptors.connectivity import correlation, fisher_z
from fmrilm.descriptors.measures import spectra
from fmrilm.descriptors.measures.group_ica import (
    group_maps,
    label_components,
    mean_correlation,
    time_courses,
)
from fmrilm.descriptors.measures.networks import membership, network_order
from fmrilm.descriptors.text.facts import Fact, Quantity, Statement, measure_name
from fmrilm.errors import InputError

LOCAL = (
    "ica_amplitude",
    "ica_variability",
    "ica_spectral_ratio",
    "ica_autocorrelation",
    "ica_transients",
    "ica_falff",
)
SPECTRAL = ("ica_spectral_ratio", "ica_autocorrelation", "ica_falff")
# How many networks (pairs) are told of each; of the secondary ones only the furthest of all.
TOLD = {"ica_amplitude": 3, "ica_spectral_ratio": 2, "ica_falff": 2, "fnc": 3}
SECONDARY = ("ica_variability", "ica_autocorrelation", "ica_transients")


@DESCRIPTORS.register("ica")
class ICA(Descriptor):
    """Time courses of independent components, by network.

    Fitting makes group spatial ICA of the training scans (or takes ``maps``), and assigns every
    component to the network it covers. Per network, as the mean over its components:
    ``ica_amplitude__`` (SD of the time course), ``ica_variability__`` (relative change of that SD
    between 30-s windows), ``ica_spectral_ratio__`` (log10 of power 0.01-0.1 / 0.1-0.25 Hz),
    ``ica_autocorrelation__`` (lag one time point), ``ica_transients__`` (excursions beyond two
    robust SD, per minute), ``ica_falff__``. Per pair of networks: ``fnc__<A>__<B>``, functional
    network connectivity (Fisher z between component time courses). Over all: ``fnc_mean``,
    ``ica_mean_falff``.

    Parameters
    ----------
    networks, t_r, names
        As in :class:`Descriptor`.
    n_components : int
        Components of the group ICA.
    maps : ndarray, shape (n_maps, n_rois), optional
        Spatial maps to use instead (NeuroMark's, say, averaged in each region).
    random_state : int
        Of FastICA.
    filtered : bool
        Whether the series were filtered in time: the spectral measures then say what the filter
        did, and are NaN.

    Attributes
    ----------
    maps_ : ndarray, shape (n_components, n_rois)

    Examples
    --------
    >>> family = ICA(networks=["Vis"] * 10 + ["Default"] * 10).fit(train_scans)
    >>> family.describe(test_scans)
    """

    family = "ica"
    title = "Independent components"
    min_timepoints = 20
    min_rois = 10
    template = ("maps_",)
    quantities = (
        Quantity("ica_amplitude", "component amplitude", ("temporal amplitude",)),
        Quantity("ica_variability", "amplitude variability", ("variability over time",)),
        Quantity(
            "ica_spectral_ratio", "low-to-high frequency power ratio", ("spectral power ratio",)
        ),
        Quantity("ica_autocorrelation", "lag-1 autocorrelation", ("temporal autocorrelation",)),
        Quantity("ica_transients", "rate of transients", ("transient rate",)),
        Quantity("ica_falff", "fALFF", ("fractional low-frequency amplitude",)),
        Quantity(
            "fnc",
            "functional network connectivity",
            ("FNC", "component coupling"),
            symbol="r",
            shown=np.tanh,
        ),
        Quantity("fnc_mean", "mean FNC", ("overall FNC",), symbol="r", shown=np.tanh),
        Quantity("ica_mean_falff", "mean fALFF", ("overall fALFF",)),
    )

    def __init__(
        self,
        networks: Sequence[str],
        t_r: float = 2.0,
        names: Sequence[str] | None = None,
        n_components: int = 20,
        maps: np.ndarray | None = None,
        random_state: int = 0,
        filtered: bool = False,
    ) -> None:
        super().__init__(networks, t_r, names)
        self.n_components = n_components
        self.maps = maps
        self.random_state = random_state
        self.filtered = filtered

    def measure_names(self) -> list[str]:
        """Return the names of the measures."""
        order = network_order(self.networks)
        names = [measure_name(key, name) for key in LOCAL for name in order]
        names += [measure_name("fnc", a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
        return [*names, "fnc_mean", "ica_mean_falff"]

    def fit_template(self, scans: Iterable[np.ndarray]) -> ICA:
        """Learn ``maps_`` from the training scans.

        Raises
        ------
        InputError
            If no training scan has enough data, or ``maps`` does not fit the regions.
        """
        if self.maps is not None:
            self.maps_ = np.asarray(self.maps, dtype=np.float64)
            if self.maps_.ndim != 2 or self.maps_.shape[1] != len(self.networks):
                raise InputError(
                    f"ica: maps of shape {self.maps_.shape} do not fit {len(self.networks)} regions"
                )
            return self
        covariance = mean_correlation(scans, len(self.networks), self.min_timepoints)
        if covariance is None:
            raise InputError(
                f"ica: no training scan has {self.min_timepoints} time points and two regions"
            )
        count = min(self.n_components, len(self.networks) // 3)
        self.maps_ = group_maps(covariance, count, self.random_state)
        return self

    def measure(self, series: np.ndarray, usable: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return the measures of one scan."""
        full = membership(self.networks, np.ones(len(usable), bool))
        groups = label_components(self.maps_, full)
        present = membership(self.networks, usable).any(axis=1)
        courses = time_courses(series[usable], self.maps_[:, usable], kept)
        frequencies, power = spectra.power_spectrum(courses, self.t_r)
        local = np.stack(
            (
                courses.std(axis=1),
                spectra.amplitude_variability(courses, self.t_r),
                spectra.spectral_ratio(frequencies, power),
                spectra.lag_one(courses),
                spectra.transient_rate(courses, self.t_r),
                spectra.falff(frequencies, power),
            )
        )  # (n_local, n_components)
        if self.filtered:
            local[[LOCAL.index(name) for name in SPECTRAL]] = np.nan
        share = np.zeros((len(groups), len(courses)))
        for k, group in enumerate(groups):
            share[k, group] = 1 / len(group)
        by_network = np.where(present, local @ share.T, np.nan)
        coupling = fisher_z(correlation(courses[:, kept]))
        np.fill_diagonal(coupling, 0)  # of a component that two networks share
        between = share @ coupling @ share.T
        between[~present] = between[:, ~present] = np.nan
        pairs = between[np.triu_indices(len(groups), 1)]
        falff = local[LOCAL.index("ica_falff")]
        overall = coupling[np.triu_indices(len(coupling), 1)].mean()
        return np.concatenate((by_network.ravel(), pairs, (overall, falff.mean())))

    def choose(self, facts: dict[str, Fact]) -> list[Statement]:
        """Return the furthest networks and pairs, the furthest secondary measure, the means."""
        found: dict[str, list[Fact]] = {}
        for fact in sorted(facts.values(), key=lambda fact: -abs(fact.z)):
            found.setdefault(fact.quantity, []).append(fact)
        secondary = [found[key][0] for key in SECONDARY if key in found]
        told = [found.get(key, [])[:count] for key, count in TOLD.items()]
        told.append(sorted(secondary, key=lambda fact: -abs(fact.z))[:1])
        statements = [Statement("compare", tuple(group)) for group in told if group]
        overall = [facts[name] for name in ("fnc_mean", "ica_mean_falff") if name in facts]
        if overall:
            statements.append(Statement("level", tuple(overall)))
        return statements
