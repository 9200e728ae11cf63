"""Vector quantization with a codebook learned by gradient (arXiv 1711.00937)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmrilm.tokenizer.quantizers.base import (
    QUANTIZERS,
    Quantizer,
    QuantizerOutput,
    as_vectors,
    code_head,
    fit_output,
)
from fmrilm.tokenizer.quantizers.kmeans import kmeans, nearest


@QUANTIZERS.register("vq_learned")
class LearnedVectorQuantizer(Quantizer):
    """Nearest code in Euclidean distance; codes are parameters pulled towards their vectors.

    Codes that no vector is near get no gradient and stay unused: the moving averages of ``vq``
    avoid that.

    Parameters
    ----------
    dim : int
        Width of what comes in.
    codebook_size : int
    code_dim : int
        Width of a code.
    beta : float
        Weight of the commitment loss, beside the codebook loss of weight 1.
    head : str
        ``linear`` or ``tanh``, see :func:`code_head`; only a linear one starts from a linear code.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 8192,
        code_dim: int = 128,
        beta: float = 0.25,
        head: str = "linear",
    ) -> None:
        super().__init__()
        self.dim, self.codebook_size, self.beta = dim, codebook_size, beta
        self.start_vectors = codebook_size
        self.linear_size = code_dim if head == "linear" else 0
        self.project_in = code_head(dim, code_dim, head)
        self.project_out = nn.Linear(code_dim, dim)
        self.codebook = nn.Parameter(torch.randn(codebook_size, code_dim) * 0.02)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> QuantizerOutput:
        """Quantize ``x`` (B, N, dim)."""
        vectors = self.project_in(x).float()  # (B, N, code_dim)
        indices = nearest(vectors.detach().flatten(0, -2), self.codebook.detach())
        indices = indices.view(x.shape[:-1])
        codes = self.codebook[indices]
        kept = slice(None) if valid is None else valid
        loss = F.mse_loss(codes[kept], vectors.detach()[kept])
        loss = loss + self.beta * F.mse_loss(vectors[kept], codes.detach()[kept])
        through = vectors + (codes - vectors).detach()
        return QuantizerOutput(self.project_out(through), indices, loss)

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Return the vectors (..., dim) of the given indices."""
        return self.project_out(self.codebook[indices])

    @torch.no_grad()
    def init_codebook(self, x: Tensor) -> None:
        """Start the codebook from k-means over vectors (n, dim)."""
        self.check_start(x)
        self.codebook.copy_(kmeans(self.project_in(x).float(), self.codebook_size))

    @torch.no_grad()
    def start_linear(self, numbers: Tensor) -> None:
        """Let codes be the first numbers (n, K) themselves, brought to mean length 1."""
        assert isinstance(self.project_in, nn.Linear)
        K, size = numbers.shape[1], numbers.square().sum(1).mean().sqrt()
        self.project_in.weight.zero_()
        self.project_in.weight[:K, :K] = torch.eye(K) / size
        self.project_in.bias.zero_()
        vectors = as_vectors(numbers, self.dim)
        self.init_codebook(vectors)
        codes = self.codebook[nearest(self.project_in(vectors), self.codebook)]
        fit_output(self.project_out, codes, numbers)
