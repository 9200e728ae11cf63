"""The contract of every quantizer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
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
    linear_size : int
        How many of a vector's numbers a code can follow from the start (:meth:`start_linear`);
        0: it cannot be told to.
    """

    codebook_size: int
    dim: int
    start_vectors: int = 0
    linear_size: int = 0

    def forward(self, x: Tensor, valid: Tensor | None = None) -> QuantizerOutput:
        """Quantize ``x`` (B, N, dim); the codebook learns only from tokens in ``valid`` (B, N)."""
        raise NotImplementedError

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Return the vectors (..., dim) of the given indices."""
        raise NotImplementedError

    def check_codes(self) -> None:
        """Raise :class:`InputError` where there are no codes (``quantizer: none``)."""

    def init_codebook(self, x: Tensor) -> None:
        """Start the codebook from training vectors (n, dim), at least ``start_vectors``."""
        self.check_start(x)

    def start_linear(self, numbers: Tensor) -> None:
        """Start so that codes tell the first K numbers of a vector, and nothing else of it.

        Parameters
        ----------
        numbers : Tensor, shape (n, K)
            Of training vectors; K is at most ``linear_size``, n at least ``start_vectors``.
        """
        raise NotImplementedError

    def check_start(self, x: Tensor) -> None:
        """Raise ``ValueError`` if there are fewer vectors than codes: some would be duplicates."""
        if len(x) < self.start_vectors:
            raise ValueError(f"{len(x)} vectors are too few for {self.codebook_size} codes")


def code_head(dim: int, code_dim: int, kind: str) -> nn.Linear | nn.Sequential:
    """Return what leads from features to a code: one layer, or two with a tanh between them."""
    if kind == "linear":
        return nn.Linear(dim, code_dim)
    return nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, code_dim))


def as_vectors(numbers: Tensor, dim: int) -> Tensor:
    """Return vectors (n, dim) that begin with the given numbers (n, K) and are zero after."""
    return F.pad(numbers, (0, dim - numbers.shape[-1]))


@torch.no_grad()
def fit_output(layer: nn.Linear, inputs: Tensor, numbers: Tensor) -> None:
    """Let a layer's first K outputs be the least-squares estimate of ``numbers`` (n, K).

    Inputs (n, m) that never vary keep their weights; what the layer's other outputs are stays.
    """
    K = numbers.shape[1]
    varies = inputs.var(0) > 1e-10
    design = torch.cat([inputs[:, varies], torch.ones_like(inputs[:, :1])], 1).double()
    # With the same error on all inputs; a small ridge keeps dependent inputs from opposing.
    gram = design.T @ design
    gram += 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, design.T @ numbers.double()).to(layer.weight.dtype)
    layer.weight[:K] = 0
    layer.weight[:K, varies] = weight[:-1].T
    layer.bias[:K] = weight[-1]


QUANTIZERS: Registry[type[Quantizer]] = Registry("quantizer")
