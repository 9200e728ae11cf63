"""Residual finite scalar quantization: FSQ (arXiv 2309.15505) of what FSQ left over."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fmrilm.models.quantizers.base import QUANTIZERS, Quantizer, QuantizerOutput


@QUANTIZERS.register("rfsq")
class ResidualFSQ(Quantizer):
    """Bounds a few numbers, then rounds them again and again on finer grids.

    Every stage rounds what the stages before it left over, on a grid that spans one step of theirs;
    a token's index joins the stages' digits, the first stage's lowest.

    Parameters
    ----------
    dim : int
        Width of what comes in.
    levels : sequence of int
        Grid points per number of one stage.
    num_quantizers : int
        Stages; the codebook has ``prod(levels) ** num_quantizers`` entries.
    """

    def __init__(
        self, dim: int, levels: Sequence[int] = (4, 4, 3), num_quantizers: int = 2
    ) -> None:
        super().__init__()
        self.dim, self.num_quantizers = dim, num_quantizers
        self.stage_size = math.prod(levels)
        self.codebook_size = self.stage_size**num_quantizers
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
        z = torch.tanh(self.project_in(x).float())  # (B, N, d) within -1 and 1
        indices = torch.zeros(z.shape[:-1], dtype=torch.long, device=z.device)
        rest, half = z.detach(), torch.ones_like(z[..., :1])
        for stage in range(self.num_quantizers):
            step = 2 * half / self.levels
            digits = torch.floor((rest + half) / step).clamp_min(0).minimum(self.levels - 1)
            rest = rest - ((digits + 0.5) * step - half)
            half = step / 2
            indices += (digits.long() * self.basis).sum(-1) * self.stage_size**stage
        codes = z - rest  # what was left over is dropped, its gradient is not
        return QuantizerOutput(self.project_out(codes), indices, x.new_zeros(()))

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Return the vectors (..., dim) of the given indices."""
        total: Tensor | float = 0.0
        half: Tensor | float = 1.0
        for stage in range(self.num_quantizers):
            part = indices // self.stage_size**stage % self.stage_size
            digits = part[..., None] // self.basis % self.levels
            step = 2 * half / self.levels
            total = total + (digits + 0.5) * step - half
            half = step / 2
        return self.project_out(torch.as_tensor(total).to(self.project_out.weight.dtype))
