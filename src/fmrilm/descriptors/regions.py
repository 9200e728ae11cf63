"""Family ``regions``: the single regions that deviate most, named anatomically."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fmrilm.descriptors.base import DESCRIPTORS, Descriptor
from fmrilm.descriptors.connectivity import correlation, fisher_z
from fmrilm.descriptors.measures import spectra
from fmrilm.descriptors.text.facts import Fact, Quantity, Statement, measure_name
from fmrilm.descriptors.text.region_names import region_names


@DESCRIPTORS.register("regions")
class Regions(Descriptor):
    """Global connectivity and low-frequency amplitude of single regions.

    Measures, for each region i from 1: ``region_connectivity__r<i>`` (mean Fisher z to all other
    regions) and ``region_falff__r<i>``. The text tells the regions furthest from the training
    scans. ``names`` gives the anatomical labels.

    Parameters
    ----------
    networks, t_r, names
        As in :class:`Descriptor`.
    filtered : bool
        Whether the series were filtered in time: fALFF then says what the filter did, and is NaN.

    Examples
    --------
    >>> labels = ["7Networks_LH_Vis_1", "7Networks_RH_Default_Temp_5"]
    >>> family = Regions(networks=["Vis", "Default"], names=labels).fit(train_scans)
    """

    family = "regions"
    title = "Regional measures"
    min_timepoints = 20
    quantities = (
        Quantity(
            "region_connectivity",
            "regional connectivity",
            ("global connectivity of the region", "connectivity to the whole brain"),
        ),
        Quantity("region_falff", "regional fALFF", ("regional low-frequency amplitude",)),
    )
    n_told = 4

    def __init__(
        self,
        networks: Sequence[str],
        t_r: float = 2.0,
        names: Sequence[str] | None = None,
        filtered: bool = False,
    ) -> None:
        super().__init__(networks, t_r, names)
        self.filtered = filtered

    def measure_names(self) -> list[str]:
        """Return the names of the measures."""
        keys = ("region_connectivity", "region_falff")
        places = [f"r{i + 1}" for i in range(len(self.networks))]
        return [measure_name(key, place) for key in keys for place in places]

    def place_names(self) -> dict[str, str]:
        """Return the anatomical name of every place."""
        labels = self.names or [f"region {i + 1}" for i in range(len(self.networks))]
        return {f"r{i + 1}": name for i, name in enumerate(region_names(labels))}

    def measure(self, series: np.ndarray, usable: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return the measures of one scan."""
        values = np.full((2, len(usable)), np.nan)
        z = fisher_z(correlation(series[usable]))
        np.fill_diagonal(z, 0)
        values[0, usable] = z.sum(axis=1) / (len(z) - 1)
        if not self.filtered:
            values[1, usable] = spectra.falff(*spectra.power_spectrum(series[usable], self.t_r))
        return values.ravel()

    def choose(self, facts: dict[str, Fact]) -> list[Statement]:
        """Return the regions furthest from the training scans."""
        statements = []
        for key, told in (("region_connectivity", self.n_told), ("region_falff", self.n_told - 1)):
            found = [fact for fact in facts.values() if fact.quantity == key]
            far = sorted(found, key=lambda fact: -abs(fact.z))[:told]
            if far:
                statements.append(Statement("compare", tuple(far)))
        return statements
