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


def build_pool(kind: str, width: int, heads: int) -> nn.Module:
    """Return the pooling ``mean``, ``cls`` or ``map``."""
    return MeanPool() if kind == "mean" else AttentionPool(width, heads, kind == "map")
