"""Regions to networks: the order of the networks, and sums over them as matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def network_order(networks: Sequence[str]) -> list[str]:
    """Return each network once, in the order in which they first occur.

    Regions whose network is empty, ``n/a`` or ``None`` belong to none.
    """
    return [name for name in dict.fromkeys(networks) if name not in ("", "n/a", "None", "nan")]


def membership(networks: Sequence[str], usable: np.ndarray) -> np.ndarray:
    """Return which usable region is in which network, shape (n_networks, n_usable)."""
    labels = np.asarray(networks, dtype=object)[usable]
    return np.stack([labels == name for name in network_order(networks)]).astype(np.float64)


def network_mean(values: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the mean of ``values`` (n_usable, ...) in each network, NaN where there is no region.

    Parameters
    ----------
    values : ndarray, shape (n_usable,) or (n_usable, k)
    members : ndarray, shape (n_networks, n_usable)
        From :func:`membership`.
    """
    count = members.sum(1)
    total = members @ values
    shape = (-1,) + (1,) * (total.ndim - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / np.where(count > 0, count, np.nan).reshape(shape)
