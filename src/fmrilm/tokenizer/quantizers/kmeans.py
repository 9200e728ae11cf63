"""Nearest codes and k-means, on the sphere or in plain space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 512  # vectors whose scores are computed together


def nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the index (n,) of the code (k, dim) nearest to each vector (n, dim).

    The squared distance is, but for a constant, half the code's square minus the product: one
    matrix product, no (n, k, dim) differences.
    """
    return _best(vectors, codes, codes.square().sum(1) / -2)


def most_similar(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the index (n,) of the code (k, dim) with the largest product with each vector."""
    return _best(vectors, codes, None)


def _best(vectors: Tensor, codes: Tensor, extra: Tensor | None) -> Tensor:
    found = []
    for part in vectors.split(ROWS):  # scores that stay in the cache until they are read
        product = part @ codes.T if extra is None else torch.addmm(extra, part, codes.T)
        found.append(product.argmax(1))
    return torch.cat(found) if found else codes.new_zeros(0, dtype=torch.long)


def kmeans(vectors: Tensor, clusters: int, rounds: int = 10, on_sphere: bool = False) -> Tensor:
    """Return cluster centres (clusters, dim) of vectors (n, dim); of length 1 if ``on_sphere``."""
    centres = vectors[torch.randperm(len(vectors), device=vectors.device)[:clusters]].clone()
    for _ in range(rounds):
        index = most_similar(vectors, centres) if on_sphere else nearest(vectors, centres)
        total = torch.zeros_like(centres).index_add_(0, index, vectors)
        count = torch.bincount(index, minlength=clusters)[:, None]
        new = F.normalize(total, dim=1) if on_sphere else total / count.clamp_min(1)
        centres = torch.where(count > 0, new, centres)
    return centres
