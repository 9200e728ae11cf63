"""Communities of a weighted graph: Louvain (Blondel et al. 2008) and Newman's modularity.

The algorithm is scikit-network's. igraph reaches the same modularity but is GPL-licensed, which an
Apache-licensed package cannot require.
"""

from __future__ import annotations

import numpy as np


def modularity(weights: np.ndarray, partition: np.ndarray, resolution: float = 1.0) -> float:
    """Newman's modularity Q of a partition of an undirected weighted graph.

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
    members = np.eye(int(partition.max()) + 1)[partition]  # (n, n_communities)
    inside = np.einsum("ij,ij->", members, weights @ members)
    strength = members.T @ weights.sum(1)
    return float(inside / total - resolution * (strength @ strength) / total**2)


def louvain(weights: np.ndarray, resolution: float = 1.0, seed: int = 0) -> np.ndarray:
    """The community of every node, shape (n,), numbered from 0.

    Parameters
    ----------
    weights : ndarray, shape (n, n)
        Symmetric, non-negative, zero diagonal.
    resolution : float
        Above 1: more and smaller communities.
    seed : int
        Random seed for the order in which nodes are visited.
    """
    if not weights.any():
        return np.arange(len(weights))
    from scipy.sparse import csr_matrix
    from sknetwork.clustering import Louvain

    search = Louvain(
        resolution=resolution,
        tol_optimization=1e-10,
        tol_aggregation=1e-10,
        shuffle_nodes=True,
        random_state=seed,
    )
    return search.fit_predict(csr_matrix(np.asarray(weights, dtype=np.float64)))
