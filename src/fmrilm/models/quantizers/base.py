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
    start_vectors : int
        How many vectors the codebook is to be started from at least; 0: it needs no start.
    """

    codebook_size: int
    dim: int
    start_vectors: int = 0

    def forward(self, x: Tensor, valid: Tensor | None = None) -> QuantizerOutput:
        """Quantize ``x`` (B, N, dim); the codebook learns only from tokens in ``valid`` (B, N)."""
        raise NotImplementedError

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Return the vectors (..., dim) of the given indices."""
        raise NotImplementedError

    def init_codebook(self, x: Tensor) -> None:
        """Start the codebook from training vectors (n, dim), at least ``start_vectors``."""
        self.check_start(x)

    def check_start(self, x: Tensor) -> None:
        """Raise ``ValueError`` if there are fewer vectors than codes: some would be duplicates."""
        if len(x) < self.start_vectors:
            raise ValueError(f"{len(x)} vectors are too few for {self.codebook_size} codes")


QUANTIZERS: Registry[type[Quantizer]] = Registry("quantizer")
