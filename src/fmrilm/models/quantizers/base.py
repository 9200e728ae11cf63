"""The contract of every quantizer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fmrilm.registry import Registry


@dataclass
class QuantizerOutput:
    """What a quantizer makes of (B, N, dim) vectors."""

    codes: Tensor  # (B, N, dim), gradient straight through to the input
    indices: Tensor  # (B, N) long
    loss: Tensor  # scalar; 0 where the quantizer has none


class Quantizer(nn.Module):
    """Maps vectors to indices and back.

    Parameters
    ----------
    dim : int
        Width of the vectors that come in and go out.

    Attributes
    ----------
    codebook_size : int
        Number of indices.
    """

    codebook_size: int
    dim: int

    def forward(self, x: Tensor, valid: Tensor | None = None) -> QuantizerOutput:
        """Quantize ``x`` (B, N, dim); the codebook learns only from tokens in ``valid`` (B, N)."""
        raise NotImplementedError

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Return the vectors (..., dim) of the given indices."""
        raise NotImplementedError


QUANTIZERS: Registry[type[Quantizer]] = Registry("quantizer")
