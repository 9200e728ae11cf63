"""Nearest codes and k-means, on the sphere or in plain space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the index (n,) of the code (k, dim) nearest to each vector (n, dim).

    The squared distance is, but for a constant, half the code's square minus the product: one
    matrix product, no (n, k, dim) differences. On unit vectors it is the most similar code.
    """
    return torch.addmm(codes.square().sum(1) / -2, vectors, codes.T).argmax(1)


def kmeans(vectors: Tensor, clusters: int, rounds: int = 10, on_sphere: bool = False) -> Tensor:
    """Return cluster centres (clusters, dim) of vectors (n, dim); of length 1 if ``on_sphere``."""
    centres = vectors[torch.randperm(len(vectors), device=vectors.device)[:clusters]].clone()
    for _ in range(rounds):
        index = (vectors @ centres.T).argmax(1) if on_sphere else nearest(vectors, centres)
        total = torch.zeros_like(centres).index_add_(0, index, vectors)
        count = torch.bincount(index, minlength=clusters)[:, None]
        new = F.normalize(total, dim=1) if on_sphere else total / count.clamp_min(1)
        centres = torch.where(count > 0, new, centres)
    return centres
