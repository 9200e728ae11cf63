"""Family ``activation``: mean level and slope of each network, for windows too short for FC."""

from __future__ import annotations

import numpy as np

from fmrilm.descriptors.base import DESCRIPTORS, Descriptor
from fmrilm.descriptors.measures.networks import membership, network_mean, network_order
from fmrilm.descriptors.text.facts import Fact, Quantity, Statement, measure_name


@DESCRIPTORS.register("activation")
class Activation(Descriptor):
    """Mean signal of each network over the window, and its linear trend.

    Measures: ``activation__<network>`` in the unit of the series (standard deviations of the run
    when the run was scaled before windows were cut) and ``trend__<network>`` in that unit per
    second. On a series that was itself centred per region the level is zero by construction and
    tells nothing. Parameters as in :class:`Descriptor`.

    Examples
    --------
    >>> family = Activation(networks=["Vis"] * 10 + ["Default"] * 10).fit(train_windows)
    >>> family.describe(test_windows)
    """

    family = "activation"
    title = "Activation"
    min_timepoints = 2
    min_rois = 1
    quantities = (
        Quantity("activation", "activation", ("mean activation", "mean signal")),
        Quantity("trend", "trend over time", ("temporal trend",)),
    )
    n_told = 3  # networks told at each end, where there are many

    def measure_names(self) -> list[str]:
        """Return the names of the measures."""
        order = network_order(self.networks)
        return [measure_name(key, name) for key in ("activation", "trend") for name in order]

    def measure(self, series: np.ndarray, usable: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return the measures of one scan."""
        time = np.arange(series.shape[1]) * self.t_r
        centred = time - time.mean()
        weights = np.stack((np.full(len(time), 1 / len(time)), centred / (centred @ centred)))
        values = series[usable] @ weights.T  # (n_usable, 2)
        return network_mean(values, membership(self.networks, usable)).T.ravel()

    def choose(self, facts: dict[str, Fact]) -> list[Statement]:
        """Return the level of the networks (all, or the furthest) and the steepest trends."""
        levels = _furthest([f for f in facts.values() if f.quantity == "activation"], self.n_told)
        trends = sorted(
            (f for f in facts.values() if f.quantity == "trend"), key=lambda fact: -abs(fact.z)
        )[: self.n_told]
        return [Statement("compare", tuple(told)) for told in (levels, trends) if told]


def _furthest(facts: list[Fact], n: int) -> list[Fact]:
    """Return all of up to ten facts, else the ``n`` at each end."""
    ordered = sorted(facts, key=lambda fact: -fact.z)
    return ordered if len(ordered) <= 10 else [*ordered[:n], *ordered[-n:]]
