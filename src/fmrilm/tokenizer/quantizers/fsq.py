"""Finite scalar quantization, Mentzer et al., arXiv 2309.15505, and its residual form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fmrilm.tokenizer.quantizers.base import (
    QUANTIZERS,
    Quantizer,
    QuantizerOutput,
    as_vectors,
    fit_output,
)


class ScalarQuantizer(Quantizer):
    """Rounds each of a few bounded numbers to a fixed grid; there is no codebook to learn.

    Parameters
    ----------
    dim : int
        Width of what comes in.
    levels : sequence of int
        Grid points per number.
    """

    def __init__(self, dim: int, levels: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.linear_size = dim, len(levels)
        self.grid_size = math.prod(levels)
        self.project_in = nn.Linear(dim, len(levels))
        self.project_out = nn.Linear(len(levels), dim)
        grid = torch.tensor(levels)
        self.levels: Tensor
        self.register_buffer("levels", grid, persistent=False)
        basis = torch.cat([torch.ones(1, dtype=torch.long), grid[:-1].cumprod(0)])
        self.basis: Tensor
        self.register_buffer("basis", basis, persistent=False)

    def bound(self, x: Tensor) -> Tensor:
        """Return numbers within the grid."""
        raise NotImplementedError

    def centre(self) -> Tensor:
        """Return what the bounded numbers' middle comes from, one number per dimension."""
        return torch.zeros(len(self.levels))

    def round(self, bounded: Tensor) -> tuple[Tensor, Tensor]:
        """Return the grid points (..., d) of bounded numbers, and their indices (...)."""
        raise NotImplementedError

    def points(self, indices: Tensor) -> Tensor:
        """Return the grid points (..., d) of indices, as :meth:`round` gives them."""
        raise NotImplementedError

    def join(self, digits: Tensor) -> Tensor:
        """Return one index for the digits (..., d) of all numbers."""
        return (digits.long() * self.basis).sum(-1)

    def split(self, indices: Tensor) -> Tensor:
        """Return the digits (..., d) of indices."""
        return indices[..., None] // self.basis % self.levels

    def forward(self, x: Tensor, valid: Tensor | None = None) -> QuantizerOutput:
        """Quantize ``x`` (B, N, dim); ``valid`` is not needed, nothing is learned from a cohort."""
        bounded = self.bound(self.project_in(x).float())
        points, indices = self.round(bounded.detach())
        through = bounded + (points - bounded).detach()
        return QuantizerOutput(self.project_out(through), indices, x.new_zeros(()))

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Return the vectors (..., dim) of the given indices."""
        return self.project_out(self.points(indices).to(self.project_out.weight.dtype))

    @torch.no_grad()
    def start_linear(self, numbers: Tensor) -> None:
        """Read the first numbers (n, K), each at the scale that leaves the least error."""
        K, spread = numbers.shape[1], numbers.std(0).clamp_min(1e-6)
        middle, best = self.centre(), torch.full((numbers.shape[1],), -1.0)
        self.project_in.weight.zero_()
        self.project_in.bias.copy_(middle)
        for scale in torch.linspace(0.3, 1.8, 16):
            z = middle + as_vectors(numbers / spread * scale, len(middle))
            points = self.round(self.bound(z))[0][:, :K]
            fit = (_unit(points) * _unit(numbers)).sum(0)  # correlation: decoding is linear
            better = torch.nonzero(fit > best).flatten()
            self.project_in.weight[better, better] = scale / spread[better]
            best[better] = fit[better]
        z = self.project_in(as_vectors(numbers, self.dim))
        fit_output(self.project_out, self.round(self.bound(z))[0], numbers)


def _unit(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred / centred.norm(dim=0).clamp_min(1e-12)


@QUANTIZERS.register("fsq")
class FiniteScalarQuantizer(ScalarQuantizer):
    """Rounds each of a few bounded numbers to a fixed grid; there is no codebook to learn.

    Parameters
    ----------
    dim : int
        Width of what comes in.
    levels : sequence of int
        Grid points per number; their product is the codebook size.
    """

    def __init__(self, dim: int, levels: Sequence[int] = (8, 8, 8, 6, 5)) -> None:
        super().__init__(dim, levels)
        self.codebook_size = self.grid_size

    @property
    def _half(self) -> Tensor:
        return (self.levels - 1) * (1 + 1e-3) / 2

    @property
    def _offset(self) -> Tensor:
        return torch.where(self.levels % 2 == 0, 0.5, 0.0)

    def centre(self) -> Tensor:
        """Return the input whose bounded value lies in the middle of the grid."""
        return -(self._offset / self._half).atanh()

    def bound(self, x: Tensor) -> Tensor:
        """Return numbers within the grid, in steps of the grid."""
        half, offset = self._half, self._offset
        return (torch.tanh(x + (offset / half).atanh()) * half - offset) / (self.levels // 2)

    def round(self, bounded: Tensor) -> tuple[Tensor, Tensor]:
        """Return the grid points (..., d), within -1 and 1, and their indices (...)."""
        width = self.levels // 2
        digits = (bounded * width).round() + width
        return (digits - width) / width, self.join(digits)

    def points(self, indices: Tensor) -> Tensor:
        """Return the grid points (..., d) of indices."""
        width = self.levels // 2
        return (self.split(indices) - width) / width


@QUANTIZERS.register("rfsq")
class ResidualFSQ(ScalarQuantizer):
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
        super().__init__(dim, levels)
        self.num_quantizers = num_quantizers
        self.codebook_size = self.grid_size**num_quantizers

    def bound(self, x: Tensor) -> Tensor:
        """Return numbers within -1 and 1."""
        return torch.tanh(x)

    def round(self, bounded: Tensor) -> tuple[Tensor, Tensor]:
        """Return the points (..., d) of the finest grid, and their indices (...)."""
        indices = torch.zeros(bounded.shape[:-1], dtype=torch.long, device=bounded.device)
        rest, half = bounded, torch.ones_like(bounded[..., :1])
        for stage in range(self.num_quantizers):
            step = 2 * half / self.levels
            digits = torch.floor((rest + half) / step).clamp_min(0).minimum(self.levels - 1)
            rest = rest - ((digits + 0.5) * step - half)
            half = step / 2
            indices += self.join(digits) * self.grid_size**stage
        return bounded - rest, indices

    def points(self, indices: Tensor) -> Tensor:
        """Return the points (..., d) of the finest grid."""
        total: Tensor | float = 0.0
        half: Tensor | float = 1.0
        for stage in range(self.num_quantizers):
            part = indices // self.grid_size**stage % self.grid_size
            step = 2 * half / self.levels
            total = total + (self.split(part) + 0.5) * step - half
            half = step / 2
        return torch.as_tensor(total)
