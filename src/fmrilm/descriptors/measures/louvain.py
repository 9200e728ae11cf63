"""Louvain communities of a weighted graph (Blondel et al. 2008, J. Stat. Mech. P10008) in numpy.

Gains of all nodes come from one matrix product; only the nodes that would move are then visited
one by one. After the levels are built, single nodes are moved once more (multilevel refinement).
"""

from __future__ import annotations

import numpy as np

SMALLEST_GAIN = 1e-10


def modularity(weights: np.ndarray, partition: np.ndarray, resolution: float = 1.0) -> float:
    """Return Newman's modularity Q of a partition of an undirected weighted graph.

    Parameters
    ----------
    weights : ndarray, shape (n, n)
        Symmetric, non-negative.
    partition : ndarray of int, shape (n,)
    resolution : float
        gamma in Q = sum_c [w_cc / 2m - gamma (k_c / 2m)^2].
    """
    total = weights.sum()
    if total == 0:
        return 0.0
    members = _indicator(partition)
    inside = np.einsum("ij,ij->", members, weights @ members)
    strength = members.T @ weights.sum(1)
    return float(inside / total - resolution * (strength @ strength) / total**2)


def louvain(weights: np.ndarray, resolution: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return the community of every node, shape (n,), numbered from 0.

    Parameters
    ----------
    weights : ndarray, shape (n, n)
        Symmetric, non-negative, zero diagonal.
    resolution : float
        Above 1: more and smaller communities.
    seed : int
        Of the order in which nodes are visited.
    """
    weights = np.asarray(weights, dtype=np.float64)
    partition = np.arange(len(weights))
    best, best_value = partition, -np.inf
    if weights.sum() == 0:
        return partition
    rng = np.random.default_rng(seed)
    while True:
        partition = _merge_up(
            weights, _move_nodes(weights, partition, rng, resolution), rng, resolution
        )
        value = modularity(weights, partition, resolution)
        if value <= best_value + SMALLEST_GAIN:
            return best
        best, best_value = partition, value


def _merge_up(
    weights: np.ndarray, partition: np.ndarray, rng: np.random.Generator, resolution: float
) -> np.ndarray:
    """Merge whole communities until no merge raises the modularity."""
    while True:
        members = _indicator(partition)
        merged = _move_nodes(
            members.T @ weights @ members, np.arange(members.shape[1]), rng, resolution
        )
        if len(np.unique(merged)) == members.shape[1]:
            return partition
        partition = merged[partition]


def _move_nodes(
    weights: np.ndarray, partition: np.ndarray, rng: np.random.Generator, resolution: float
) -> np.ndarray:
    """Move single nodes to the community of the largest gain until none gains."""
    n = len(weights)
    nodes = np.arange(n)
    strength = weights.sum(1)
    pull = resolution * strength / strength.sum()
    own = np.diag(weights)
    while True:
        partition = np.unique(partition, return_inverse=True)[1]
        members = _indicator(partition)
        to_community = weights.copy() if members.shape[1] == n else weights @ members
        total = strength @ members
        gain = to_community - np.outer(pull, total)
        gain[nodes, partition] += pull * strength - own  # leaving first takes the node out
        movers = np.flatnonzero(gain.max(1) > gain[nodes, partition] + SMALLEST_GAIN)
        if len(movers) == 0:
            return partition
        for node in rng.permutation(movers).tolist():
            here = partition[node]
            gains = to_community[node] - pull[node] * total
            gains[here] += pull[node] * strength[node] - own[node]
            there = gains.argmax()
            if gains[there] > gains[here] + SMALLEST_GAIN:
                to_community[:, here] -= weights[node]
                to_community[:, there] += weights[node]
                total[here] -= strength[node]
                total[there] += strength[node]
                partition[node] = there


def _indicator(partition: np.ndarray) -> np.ndarray:
    """Return the membership as columns of zeros and ones, shape (n, n_communities)."""
    members = np.zeros((len(partition), int(partition.max()) + 1))
    members[np.arange(len(partition)), partition] = 1
    return members
