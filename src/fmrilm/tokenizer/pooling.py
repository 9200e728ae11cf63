"""From a scan's tokens to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def masked_mean(features: Tensor, valid: Tensor) -> Tensor:
    """Return the mean (B, D) of the valid tokens of (B, N, D)."""
    weight = valid.to(features.dtype)
    return (features * weight[:, :, None]).sum(1) / weight.sum(1, keepdim=True).clamp_min(1)


class AttentionPool(nn.Module):
    """A learned query that reads all tokens.

    ``cls``: a class token that attends to the encoder's output once, so that the tokens stay
    causal; ``map``: the same followed by an MLP (multihead attention pooling, arXiv 2106.04560).
    """

    def __init__(self, width: int, heads: int, with_mlp: bool) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp: nn.Module | None = None
        if with_mlp:
            layers = (nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            self.mlp = nn.Sequential(nn.LayerNorm(width), *layers)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Return one vector per scan (B, D) from tokens (B, N, D)."""
        query = self.query.expand(len(features), -1, -1)
        x = self.attention(query, features, features, key_padding_mask=~valid)[0][:, 0]
        return x if self.mlp is None else x + self.mlp(x)


class MeanPool(nn.Module):
    """The mean of the valid tokens."""

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Return one vector per scan (B, D) from tokens (B, N, D)."""
        return masked_mean(features, valid)


class RegionPool(nn.Module):
    """A weight of its own for every region: what is said of one network is not said of another.

    Tokens are averaged over time steps, narrowed, and read side by side by one linear layer.
    """

    def __init__(self, width: int, tokens_per_step: int, narrow: int = 16) -> None:
        super().__init__()
        self.tokens_per_step = tokens_per_step
        self.narrow = nn.Linear(width, narrow)
        self.read = nn.Linear(tokens_per_step * narrow, width)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Return one vector per scan (B, D) from tokens (B, N, D)."""
        weight = valid.to(features.dtype).unflatten(1, (-1, self.tokens_per_step))[..., None]
        x = features.unflatten(1, (-1, self.tokens_per_step)) * weight
        x = x.sum(1) / weight.sum(1).clamp_min(1)  # (B, R, D), zero where a region is masked
        return self.read(self.narrow(x).flatten(1))


def build_pool(kind: str, width: int, heads: int, tokens_per_step: int) -> nn.Module:
    """Return the pooling ``mean``, ``cls``, ``map`` or ``regions``."""
    if kind == "mean":
        return MeanPool()
    if kind == "regions":
        return RegionPool(width, tokens_per_step)
    return AttentionPool(width, heads, kind == "map")
