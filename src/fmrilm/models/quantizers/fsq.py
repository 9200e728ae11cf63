"""Finite scalar quantization, Mentzer et al., arXiv 2309.15505."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fmrilm.models.quantizers.base import QUANTIZERS, Quantizer, QuantizerOutput


@QUANTIZERS.register("fsq")
class FiniteScalarQuantizer(Quantizer):
    """Rounds each of a few bounded numbers to a fixed grid; there is no codebook to learn.

    Parameters
    ----------
    dim : int
        Width of what comes in.
    levels : sequence of int
        Grid points per number; their product is the codebook size.
    """

    def __init__(self, dim: int, levels: Sequence[int] = (8, 8, 8, 6, 5)) -> None:
        super().__init__()
        self.dim, self.codebook_size = dim, math.prod(levels)
        self.project_in = nn.Linear(dim, len(levels))
        self.project_out = nn.Linear(len(levels), dim)
        grid = torch.tensor(levels)
        self.levels: Tensor
        self.register_buffer("levels", grid, persistent=False)
        basis = torch.cat([torch.ones(1, dtype=torch.long), grid[:-1].cumprod(0)])
        self.basis: Tensor
        self.register_buffer("basis", basis, persistent=False)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> QuantizerOutput:
        """Quantize ``x`` (B, N, dim); ``valid`` is not needed, nothing is learned from a cohort."""
        z = self.project_in(x).float()
        half = (self.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        bounded = torch.tanh(z + (offset / half).atanh()) * half - offset
        rounded = bounded + (bounded.round() - bounded).detach()
        width = self.levels // 2
        digits = (rounded.detach() + width).round().long()
        indices = (digits * self.basis).sum(-1)
        return QuantizerOutput(self.project_out(rounded / width), indices, x.new_zeros(()))

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Return the vectors (..., dim) of the given indices."""
        digits = indices[..., None] // self.basis % self.levels
        width = self.levels // 2
        return self.project_out(((digits - width) / width).to(self.project_out.weight.dtype))
