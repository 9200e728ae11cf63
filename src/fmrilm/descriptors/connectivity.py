"""Family ``fc``: mean functional connectivity within and between networks."""

from __future__ import annotations

import numpy as np

from fmrilm.descriptors.base import DESCRIPTORS, Descriptor
from fmrilm.descriptors.measures.networks import membership, network_order
from fmrilm.descriptors.text.facts import Fact, Quantity, Statement, measure_name

LARGEST_R = 1 - 1e-7  # identical series have r = 1, whose Fisher z is infinite


def standardise(series: np.ndarray) -> np.ndarray:
    """Return rows of mean 0 and sum of squares 1, shape (n_rois, n_timepoints)."""
    centred = series - series.mean(axis=1, keepdims=True)
    return centred / np.sqrt(np.einsum("ij,ij->i", centred, centred))[:, None]


def correlation(series: np.ndarray) -> np.ndarray:
    """Return the Pearson correlation between the rows, shape (n_rois, n_rois)."""
    rows = standardise(series)
    return rows @ rows.T


def fisher_z(r: np.ndarray) -> np.ndarray:
    """Return arctanh of correlations; |r| is held below 1 so that the result is finite."""
    return np.arctanh(np.clip(r, -LARGEST_R, LARGEST_R))


def block_means(matrix: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the mean of a symmetric matrix within and between networks, without its diagonal.

    Parameters
    ----------
    matrix : ndarray, shape (n_usable, n_usable)
    members : ndarray, shape (n_networks, n_usable)

    Returns
    -------
    ndarray, shape (n_networks, n_networks)
        NaN where a network has no region, or a single one (within).
    """
    count = members.sum(1)
    total = members @ matrix @ members.T
    total[np.diag_indices_from(total)] -= members @ np.diag(matrix)
    pairs = np.outer(count, count)
    pairs[np.diag_indices_from(pairs)] -= count
    return np.divide(total, pairs, out=np.full_like(total, np.nan), where=pairs > 0)


@DESCRIPTORS.register("fc")
class Connectivity(Descriptor):
    """Mean Fisher-z correlation within each network and between each pair of networks.

    Measures: ``fc__<A>__<B>`` for every pair of networks (Fisher z), ``fc_within`` and
    ``fc_between`` (means over region pairs inside and across networks), ``fc_segregation``
    = (within - between) / within, the system segregation of Chan et al. (2014, PNAS 111, E4997),
    of the mean Fisher z; NaN where ``fc_within`` is not positive.
    The text tells the pairs that lie furthest above and below the training scans, and the scan's
    own strongest and weakest pairs (highest and lowest r; below zero: the most negative).
    Parameters as in :class:`Descriptor`.

    Examples
    --------
    >>> family = Connectivity(networks=["Vis"] * 10 + ["Default"] * 10).fit(train_scans)
    >>> family.describe(test_scans)
    """

    family = "fc"
    title = "Functional connectivity"
    in_time = False
    quantities = (
        Quantity(
            "fc",
            "connectivity",
            ("functional connectivity", "coupling"),
            symbol="r",
            shown=np.tanh,
        ),
        Quantity(
            "fc_within",
            "mean within-network connectivity",
            ("average within-network coupling",),
            symbol="r",
            shown=np.tanh,
        ),
        Quantity(
            "fc_between",
            "mean between-network connectivity",
            ("average between-network coupling",),
            symbol="r",
            shown=np.tanh,
        ),
        Quantity(
            "fc_segregation",
            "network segregation",
            ("system segregation",),
            higher="networks that keep more to themselves",
            lower="more mixing across networks",
        ),
    )
    n_told = 6  # pairs told at each end

    def measure_names(self) -> list[str]:
        """Return the names of the measures."""
        order = network_order(self.networks)
        pairs = [(a, b) for i, a in enumerate(order) for b in order[i:]]
        names = [measure_name("fc", a, b) for a, b in pairs]
        return [*names, "fc_within", "fc_between", "fc_segregation"]

    def measure(self, series: np.ndarray, usable: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return the measures of one scan."""
        z = fisher_z(correlation(series[usable]))
        members = membership(self.networks, usable)
        blocks = block_means(z, members)
        count = members.sum(1)
        inside = count * (count - 1)
        outside = np.outer(count, count)
        np.fill_diagonal(outside, 0)
        within = _weighted_mean(np.diag(blocks), inside)
        between = _weighted_mean(blocks, outside)
        segregation = (within - between) / within if within > 0 else np.nan
        return np.concatenate(
            (blocks[np.triu_indices_from(blocks)], (within, between, segregation))
        )

    def choose(self, facts: dict[str, Fact]) -> list[Statement]:
        """Return the furthest pairs at both ends, the scan's own extremes, and segregation."""
        pairs = [fact for fact in facts.values() if fact.quantity == "fc"]
        n = min(self.n_told, max(1, len(pairs) // 3))
        by_z = sorted(pairs, key=lambda fact: -fact.z)
        by_value = sorted(pairs, key=lambda fact: -fact.value)
        statements = []
        if pairs:
            statements = [
                Statement("compare", tuple(by_z[:n])),
                Statement("compare", tuple(by_z[-n:][::-1])),
                Statement("strongest", (by_value[0],)),
                Statement("weakest", (by_value[-1],)),
            ]
        overall = [facts[name] for name in ("fc_within", "fc_segregation") if name in facts]
        if overall:
            statements.append(Statement("level", tuple(overall)))
        return statements


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    known = weights > 0
    if not known.any():
        return float("nan")
    return float(np.average(values[known], weights=weights[known]))
