"""Family ``graph``: integration, segregation and hubs of the thresholded connectivity graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fmrilm.descriptors.base import DESCRIPTORS, Descriptor
from fmrilm.descriptors.connectivity import correlation
from fmrilm.descriptors.measures.communities import louvain, modularity
from fmrilm.descriptors.measures.graph import (
    global_efficiency,
    participation,
    proportional_threshold,
    small_worldness,
    weighted_clustering,
)
from fmrilm.descriptors.measures.networks import membership, network_mean, network_order
from fmrilm.descriptors.text.facts import Fact, Quantity, Statement, measure_name

GLOBAL = (
    "modularity",
    "global_efficiency",
    "average_clustering",
    "mean_participation",
    "small_worldness",
)


@DESCRIPTORS.register("graph")
class Graph(Descriptor):
    """Weighted graph of the strongest correlations.

    Measures: ``modularity`` (Louvain), ``global_efficiency``, ``average_clustering`` (Onnela),
    ``mean_participation``, ``small_worldness``; per network ``strength__<network>`` (mean node
    strength) and ``participation__<network>``, with the atlas's networks as modules (regions
    without a network are one more). Small-worldness is NaN, and not told, where its null does not
    hold. The text says which edges are kept.

    Parameters
    ----------
    networks, t_r, names
        As in :class:`Descriptor`.
    density : float
        Share of edges kept.
    absolute : bool
        Rank and weigh edges by |r|; False: positive correlations only.
    resolution : float
        Of the modularity.
    random_state : int
        Of the Louvain runs.

    Examples
    --------
    >>> family = Graph(networks=["Vis"] * 10 + ["Default"] * 10).fit(train_scans)
    >>> family.describe(test_scans)
    """

    family = "graph"
    title = "The connectivity graph"
    in_time = False
    min_rois = 10
    quantities = (
        Quantity(
            "modularity",
            "modularity",
            higher="a stronger segregation into separate modules",
            lower="a weaker segregation into separate modules",
        ),
        Quantity(
            "global_efficiency",
            "global efficiency",
            higher="stronger integration across the whole brain",
            lower="weaker integration across the whole brain",
        ),
        Quantity(
            "average_clustering",
            "average clustering",
            ("local clustering",),
            higher="denser local neighbourhoods",
            lower="sparser local neighbourhoods",
        ),
        Quantity(
            "mean_participation",
            "mean participation",
            higher="links that spread over more networks",
            lower="links that stay within their own network",
        ),
        Quantity("small_worldness", "small-worldness"),
        Quantity("strength", "node strength", ("hub strength",)),
        Quantity(
            "participation", "the participation coefficient", ("cross-network participation",)
        ),
    )
    n_told = 2

    def __init__(
        self,
        networks: Sequence[str],
        t_r: float = 2.0,
        names: Sequence[str] | None = None,
        density: float = 0.1,
        absolute: bool = True,
        resolution: float = 1.0,
        random_state: int = 0,
    ) -> None:
        super().__init__(networks, t_r, names)
        self.density = density
        self.absolute = absolute
        self.resolution = resolution
        self.random_state = random_state

    def measure_names(self) -> list[str]:
        """Return the names of the measures."""
        order = network_order(self.networks)
        local = [measure_name(key, name) for key in ("strength", "participation") for name in order]
        return [*GLOBAL, *local]

    def measure(self, series: np.ndarray, usable: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return the measures of one scan."""
        r = correlation(series[usable])
        np.fill_diagonal(r, 0)
        weights = proportional_threshold(np.abs(r) if self.absolute else r, self.density)
        members = membership(self.networks, usable)
        outside = 1 - members.sum(axis=0)  # regions without a network count as one more module
        modules = np.vstack((members, outside)) if outside.any() else members
        spread = participation(weights, modules)
        partition = louvain(weights, self.resolution, self.random_state)
        overall = (
            modularity(weights, partition, self.resolution),
            global_efficiency(weights),
            weighted_clustering(weights).mean(),
            spread.mean(),
            small_worldness(weights),
        )
        strength = network_mean(weights.sum(1), members)
        return np.concatenate((overall, strength, network_mean(spread, members)))

    def choose(self, facts: dict[str, Fact]) -> list[Statement]:
        """Return the global measures, then the networks furthest from the training scans."""
        overall = [facts[name] for name in GLOBAL if name in facts]
        statements = [Statement("level", tuple(overall[i : i + 2])) for i in (0, 2) if overall[i:]]
        if "small_worldness" in facts:
            statements.append(Statement("level", (facts["small_worldness"],)))
        for key in ("strength", "participation"):
            local = sorted((f for f in facts.values() if f.quantity == key), key=lambda f: -f.z)
            ends = local if len(local) <= 2 * self.n_told else local[: self.n_told]
            if len(local) > 2 * self.n_told:
                ends = [*ends, *local[-self.n_told :]]
            if ends:
                statements.append(Statement("compare", tuple(ends)))
        if statements:
            kind = "correlations by |r|" if self.absolute else "positive correlations"
            edges = f"Edges are the top {100 * self.density:g}% of {kind}."
            statements.append(Statement("note", text=edges))
        return statements
