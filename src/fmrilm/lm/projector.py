"""From the tokens of a scan to the width of the language model."""

from __future__ import annotations

from torch import nn


def build_projector(kind: str, scan_dim: int, width: int) -> nn.Sequential:
    """Layers from a scan's tokens to the width of the language model."""
    if kind == "linear":  # as in the original
        return nn.Sequential(nn.Linear(scan_dim, width), nn.GELU())
    return nn.Sequential(
        nn.LayerNorm(scan_dim), nn.Linear(scan_dim, width), nn.GELU(), nn.Linear(width, width)
    )
