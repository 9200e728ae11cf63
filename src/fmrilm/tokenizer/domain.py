"""Domain confusion through gradient reversal (Ganin et al., arXiv 1505.07818)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """Return ``x``; its gradient comes back negative, times ``strength``."""
    return _Reverse.apply(x, strength)  # type: ignore[no-untyped-call]


def ramp(progress: float) -> float:
    """Return the strength of the reversal, from 0 at the start of training towards 1."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


class DomainConfusion(nn.Module):
    """A classifier that tells fMRI tokens from text tokens, and an encoder that hides which.

    The classifier learns on both; the reversed gradient reaches the fMRI side alone.

    Parameters
    ----------
    scan_dim, text_dim : int
        Widths of the two sides; scans are projected to the text's.
    """

    def __init__(self, scan_dim: int, text_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(scan_dim, text_dim)
        self.classifier = nn.Sequential(nn.Linear(text_dim, 256), nn.GELU(), nn.Linear(256, 2))

    def forward(self, scans: Tensor, texts: Tensor, strength: float) -> Tensor:
        """Return the cross-entropy over tokens (n, scan_dim) and texts (m, text_dim), each half."""
        scan_logits = self.classifier(reverse_gradient(self.proj(scans), strength))
        text_logits = self.classifier(texts)
        zeros = torch.zeros(len(scans), dtype=torch.long, device=scans.device)
        ones = torch.ones(len(texts), dtype=torch.long, device=texts.device)
        return (F.cross_entropy(scan_logits, zeros) + F.cross_entropy(text_logits, ones)) / 2
