"""Diffusion-map embedding of connectivity (Margulies et al. 2016, PNAS 113, 12574).

Coifman & Lafon (2006, Appl. Comput. Harmon. Anal. 21, 5): affinity -> anisotropic normalisation
with alpha -> Markov matrix -> leading non-trivial eigenvectors, scaled by lambda / (1 - lambda),
the sum over all diffusion times.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

LARGEST_EIGENVALUE = 1 - 1e-9


def sparsify_rows(matrix: np.ndarray, kept: float) -> np.ndarray:
    """Return the matrix with the largest share ``kept`` of every row only, zero elsewhere.

    As percentile thresholding does it: an entry stays when it is at least the row's percentile.
    """
    n = matrix.shape[1]
    position = (1 - kept) * (n - 1)
    below = int(position)
    ordered = np.partition(matrix, (below, min(below + 1, n - 1)), axis=1)
    low, high = ordered[:, below], ordered[:, min(below + 1, n - 1)]
    threshold = low + (position - below) * (high - low)
    return np.where(matrix >= threshold[:, None], matrix, 0)


def cosine_affinity(matrix: np.ndarray, kept: float = 0.1) -> np.ndarray:
    """Return the cosine similarity between the sparsified rows, negative values set to zero.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        Connectivity.
    kept : float
        Share of every row that is kept.
    """
    rows = sparsify_rows(matrix, kept)
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows = rows / np.where(length > 0, length, 1)[:, None]
    affinity = rows @ rows.T  # dense: faster than sparse up to a thousand regions
    return np.maximum(affinity, 0, out=affinity)


def diffusion_map(
    affinity: np.ndarray, n_components: int = 3, alpha: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients, shape (n, n_components), and their eigenvalues.

    Parameters
    ----------
    affinity : ndarray, shape (n, n)
        Symmetric, non-negative.
    n_components : int
        Gradients, by falling eigenvalue.
    alpha : float
        0: density counts fully, 1: not at all, 0.5: Fokker-Planck.

    Raises
    ------
    ValueError
        If the affinity falls into separate pieces, or has fewer nodes than are needed.
    """
    n = len(affinity)
    if n < n_components + 2:
        raise ValueError(f"{n} nodes are too few for {n_components} gradients")
    degree = affinity.sum(1)
    if not (degree > 0).all():
        raise ValueError("the affinity graph is not connected")
    density = degree**-alpha
    kernel = affinity * density[:, None] * density
    root = np.sqrt(kernel.sum(1))
    symmetric = kernel / root[:, None] / root  # same eigenvalues as the Markov matrix
    try:
        values, vectors = eigsh(symmetric, k=n_components + 1, v0=root, which="LA")
    except ArpackNoConvergence:
        values, vectors = np.linalg.eigh(symmetric)
    order = np.argsort(values)[::-1][: n_components + 1]
    values, vectors = values[order], vectors[:, order]
    if values[1] > LARGEST_EIGENVALUE:  # 1 occurs once per connected piece
        raise ValueError("the affinity graph is not connected")
    gradients = vectors[:, 1:] / vectors[:, :1]
    scale = values[1:] / (1 - values[1:])
    return gradients * scale, values[1:]


def align(gradients: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Return the gradients rotated (and reflected) to lie closest to the template.

    Orthogonal Procrustes without scaling, so that the range of a scan's gradients is its own.

    Parameters
    ----------
    gradients, template : ndarray, shape (n, n_components)
    """
    left, _, right = np.linalg.svd(gradients.T @ template)
    return gradients @ (left @ right)
