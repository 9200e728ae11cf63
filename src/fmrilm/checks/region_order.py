"""Are the rows in the order the table says? Decided from the FC itself, without any labels.

Close regions, regions of one network and mirrored regions of the two hemispheres are correlated in
every resting brain. The FC that the region table predicts from this is compared with the FC that is
found, for the table's order and for the orders that are mixed up in practice.
"""

from __future__ import annotations

import csv

import numpy as np

from fmrilm.atlases.atlas import SHIPPED, Atlas

MARGIN = 0.03  # by how much another order must fit better
POOR = 0.15  # a fit of the FC below this says that no known order is right
_NEAR, _MIRRORED = 25.0, 12.0  # mm


def expected_connectivity(atlas: Atlas) -> np.ndarray:
    """Return the correlations that places and networks predict, shape (n_rois, n_rois)."""
    network = np.array(atlas.networks)
    same = (network[:, None] == network[None]) & (network[:, None] != "")
    places = atlas.centroids
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    mirrored = np.linalg.norm(places[:, None] * [-1, 1, 1] - places[None], axis=-1)
    near = 0.25 * np.exp(-distance / _NEAR) + 0.2 * np.exp(-mirrored / _MIRRORED)
    return 0.12 + 0.18 * same + np.nan_to_num(near)


def known_orders(atlas: Atlas) -> dict[str, np.ndarray]:
    """Return name -> atlas row at each position, for the orders that are seen in practice."""
    count = len(atlas)
    orders = {"the table's order": np.arange(count)}
    side = np.array(atlas.hemispheres)
    deep = np.array(atlas.networks) == "Subcortex"
    if deep.any() and not deep.all():
        rest = np.concatenate([np.flatnonzero(~deep), np.flatnonzero(deep)])
        first = np.concatenate([np.flatnonzero(deep), np.flatnonzero(~deep)])
        is_first = bool(deep[0])
        name = "subcortex last" if is_first else "subcortex first"
        orders[name] = rest if is_first else first
    swapped = np.arange(count)
    for part in (deep, ~deep):
        left, right = (np.flatnonzero(part & (side == letter)) for letter in "LR")
        if len(left) and len(left) == len(right):
            swapped[left], swapped[right] = right, left
    if (swapped != np.arange(count)).any():
        orders["left and right swapped"] = swapped
    seventeen = _seventeen_networks(atlas)
    if seventeen is not None:
        orders["17-network order"] = seventeen
    return orders


def _seventeen_networks(atlas: Atlas) -> np.ndarray | None:
    """Return the Schaefer-400 part of the atlas in the order of its 17-network version."""
    path = SHIPPED / "orders" / "schaefer400_17networks.tsv"
    with path.open(encoding="utf-8") as lines:
        names = [row["name_7networks"] for row in csv.DictReader(lines, delimiter="\t")]
    position = {name: row for row, name in enumerate(atlas.names)}
    if not all(name in position for name in names):
        return None
    order = np.arange(len(atlas))
    order[sorted(position[name] for name in names)] = [position[name] for name in names]
    return order


def fit_orders(connectivity: np.ndarray, atlas: Atlas) -> dict[str, float]:
    """Return how well each known order explains the FC (correlation over pairs).

    Parameters
    ----------
    connectivity : ndarray, shape (n_rois, n_rois)
        Fisher z, NaN where unknown.
    atlas : Atlas
        With networks or centroids.
    """
    expected = expected_connectivity(atlas)
    upper = np.triu_indices(len(atlas), 1)
    found = connectivity[upper]
    known = np.isfinite(found)
    fits = {}
    for name, order in known_orders(atlas).items():
        predicted = expected[np.ix_(order, order)][upper]
        fits[name] = float(np.corrcoef(found[known], predicted[known])[0, 1])
    return fits
