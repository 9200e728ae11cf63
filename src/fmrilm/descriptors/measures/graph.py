"""Graph measures of weighted networks (Rubinov & Sporns 2010, NeuroImage 52, 1059), vectorised.

Every function takes ``weights``: ndarray (n, n), symmetric, non-negative, zero diagonal.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra


def proportional_threshold(matrix: np.ndarray, density: float) -> np.ndarray:
    """Return the matrix with its strongest off-diagonal entries only, and a zero diagonal.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        Symmetric. Negative entries are never kept.
    density : float
        Share of the n (n - 1) / 2 edges to keep; ties are broken by position, so that exactly
        this many are kept where there are as many positive entries.
    """
    rows, columns = np.triu_indices(len(matrix), 1)
    values = matrix[rows, columns]
    keep = round(density * len(values))
    chosen = np.argpartition(values, len(values) - keep)[len(values) - keep :]
    chosen = chosen[values[chosen] > 0]
    weights = np.zeros_like(matrix)
    weights[rows[chosen], columns[chosen]] = values[chosen]
    return weights + weights.T


def global_efficiency(weights: np.ndarray) -> float:
    """Return the mean inverse shortest path, where an edge has the length 1 / weight.

    As ``efficiency_wei`` of the Brain Connectivity Toolbox; unreachable pairs count as 0.
    """
    n = len(weights)
    lengths = csr_array(weights)
    lengths.data = 1 / lengths.data
    distance = dijkstra(lengths, directed=True)
    np.fill_diagonal(distance, np.inf)
    return float((1 / distance).sum() / (n * (n - 1)))


def binary_efficiency(weights: np.ndarray) -> float:
    """Return the mean inverse number of steps between nodes (Latora & Marchiori 2001)."""
    n = len(weights)
    edges = (weights > 0).astype(np.float32)  # products stay exact integers below 2^24
    waiting = edges == 0
    np.fill_diagonal(waiting, False)
    total, steps, frontier = float(edges.sum()), 1, edges
    while waiting.any():
        new = (frontier @ edges > 0) & waiting
        found = int(new.sum())
        if found == 0:
            break
        steps += 1
        total += found / steps
        waiting ^= new
        frontier = new.astype(np.float32)
    return total / (n * (n - 1))


def weighted_clustering(weights: np.ndarray) -> np.ndarray:
    """Return the clustering coefficient of every node, shape (n,).

    Onnela et al. (2005, Phys. Rev. E 71, 065103): geometric mean of the triangle's weights, each
    divided by the largest weight of the graph, as networkx does it.
    """
    largest = weights.max()
    degree = (weights > 0).sum(1)
    if largest == 0:
        return np.zeros(len(weights))
    root = np.cbrt(weights / largest)
    triangles = np.einsum("ij,ij->i", root @ root, root)
    pairs = degree * (degree - 1)
    return np.divide(triangles, pairs, out=np.zeros(len(weights)), where=pairs > 0)


def binary_clustering(weights: np.ndarray) -> np.ndarray:
    """Return the share of a node's neighbours that are linked, shape (n,)."""
    edges = (weights > 0).astype(np.float32)
    degree = edges.sum(1)
    triangles = np.einsum("ij,ij->i", edges @ edges, edges).astype(np.float64)
    pairs = degree * (degree - 1)
    return np.divide(triangles, pairs, out=np.zeros(len(weights)), where=pairs > 0)


def participation(weights: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the participation coefficient of every node, shape (n,); 0 for isolated nodes.

    Guimera & Amaral (2005): 1 - sum_s (k_is / k_i)^2 over the modules s.

    Parameters
    ----------
    weights : ndarray, shape (n, n)
    members : ndarray, shape (n_modules, n)
        Which node is in which module.
    """
    strength = weights.sum(1)
    shares = (weights @ members.T) / np.where(strength > 0, strength, 1)[:, None]
    return np.where(strength > 0, 1 - (shares**2).sum(1), 0.0)


def small_worldness(weights: np.ndarray) -> float:
    """Return sigma = (C / C_random) (E / E_random) of the binary graph.

    Humphries & Gurney (2008, PLoS ONE 3, e0002051) with the harmonic path length 1 / E, which
    stays finite in graphs of several pieces. The random graph is Erdos-Renyi of the same density
    p, in expectation: C_random = p, and E_random from the shares of pairs one, two and three
    steps apart. That expectation holds for dense graphs only, where n p^2 > 1: NaN for others.
    """
    n = len(weights)
    p = float((weights > 0).sum() / (n * (n - 1)))
    if n * p**2 <= 1:
        return float("nan")
    beyond_two = (1 - p**2) ** (n - 2)
    random_efficiency = p + (1 - p) * ((1 - beyond_two) / 2 + beyond_two / 3)
    clustering = binary_clustering(weights).mean()
    return float((clustering / p) * (binary_efficiency(weights) / random_efficiency))
