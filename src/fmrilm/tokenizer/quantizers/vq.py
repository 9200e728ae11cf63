"""Vector quantization with a cosine codebook kept by moving averages.

van den Oord et al., arXiv 1711.00937 (VQ-VAE, appendix A.1: EMA); cosine codes as in
Yu et al., arXiv 2110.04627.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmrilm.tokenizer.collectives import choose_rows, sum_over_processes
from fmrilm.tokenizer.quantizers.base import (
    QUANTIZERS,
    Quantizer,
    QuantizerOutput,
    as_vectors,
    code_head,
    fit_output,
)
from fmrilm.tokenizer.quantizers.kmeans import kmeans, most_similar, nearest

FLATNESS = 3.0  # constant beside numbers of mean length 1, see VectorQuantizer.start_linear


@QUANTIZERS.register("vq")
class VectorQuantizer(Quantizer):
    """Nearest code on the unit sphere, the codebook follows by exponential moving averages.

    The codebook can start from k-means (:meth:`init_codebook`); codes that nobody uses are put
    back onto training vectors.

    Parameters
    ----------
    dim : int
        Width of what comes in.
    codebook_size : int
    code_dim : int
        Width of a code.
    decay : float
        Of the moving averages.
    beta : float
        Weight of the commitment loss.
    head : str
        ``linear`` or ``tanh``, see :func:`code_head`; only a linear one starts from a linear code.
    distance : str
        ``cosine``, or ``euclidean`` for codes that are not of length 1.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 8192,
        code_dim: int = 128,
        decay: float = 0.99,
        beta: float = 1.0,
        head: str = "linear",
        distance: str = "cosine",
    ) -> None:
        super().__init__()
        self._closest = most_similar if distance == "cosine" else nearest
        self.dim, self.codebook_size, self.decay, self.beta = dim, codebook_size, decay, beta
        self.start_vectors = codebook_size
        self.linear_size = code_dim - 1 if head == "linear" else 0
        self.project_in = code_head(dim, code_dim, head)
        self.project_out = nn.Linear(code_dim, dim)
        self.codebook: Tensor
        self.register_buffer("codebook", F.normalize(torch.randn(codebook_size, code_dim), dim=1))
        self.ema_count: Tensor
        self.register_buffer("ema_count", torch.ones(codebook_size))
        self.ema_sum: Tensor
        self.register_buffer("ema_sum", self.codebook.clone())

    def forward(self, x: Tensor, valid: Tensor | None = None) -> QuantizerOutput:
        """Quantize ``x`` (B, N, dim)."""
        vectors = self._unit(x)  # (B, N, code_dim)
        valid = None if valid is None else valid.flatten()
        indices = self.assign(vectors.detach().flatten(0, -2), valid).view(x.shape[:-1])
        codes = self.codebook[indices]
        distance = 1 - (vectors * codes).sum(-1)  # half the squared distance of unit vectors
        loss = distance.mean() if valid is None else distance.flatten()[valid].mean()
        through = vectors + (codes - vectors).detach()
        return QuantizerOutput(self.project_out(through), indices, self.beta * loss)

    @torch.no_grad()
    def assign(self, vectors: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the codes' indices (n,) of unit vectors (n, code_dim); in training, learn them."""
        indices = self._closest(vectors, self.codebook)
        if self.training:
            kept = slice(None) if valid is None else valid
            self._update(vectors[kept], indices[kept])
        return indices

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Return the vectors (..., dim) of the given indices."""
        return self.project_out(self.codebook[indices])

    @torch.no_grad()
    def init_codebook(self, x: Tensor) -> None:
        """Start the codebook from k-means over vectors (n, dim)."""
        self.check_start(x)
        self.codebook.copy_(kmeans(self._unit(x), self.codebook_size, on_sphere=True))
        self.ema_sum.copy_(self.codebook)
        self.ema_count.fill_(1)

    @torch.no_grad()
    def start_linear(self, numbers: Tensor) -> None:
        """Let unit vectors tell the first numbers (n, K), with a constant beside them.

        Without the constant a vector and its double would be one code; the larger it is, the
        flatter the part of the sphere that is in use.
        """
        assert isinstance(self.project_in, nn.Linear)
        K, size = numbers.shape[1], numbers.square().sum(1).mean().sqrt()
        self.project_in.weight.zero_()
        self.project_in.weight[:K, :K] = torch.eye(K) / size
        self.project_in.bias.zero_()
        self.project_in.bias[K] = FLATNESS
        vectors = as_vectors(numbers, self.dim)
        self.init_codebook(vectors)
        codes = self.codebook[most_similar(self._unit(vectors), self.codebook)]
        fit_output(self.project_out, codes, numbers)

    def _unit(self, x: Tensor) -> Tensor:
        return F.normalize(self.project_in(x).float(), dim=-1)

    @torch.no_grad()
    def _update(self, vectors: Tensor, indices: Tensor) -> None:
        count = torch.bincount(indices, minlength=self.codebook_size).to(vectors.dtype)
        total = torch.zeros_like(self.ema_sum).index_add_(0, indices, vectors)
        # Every process sees a part of the batch; all keep one codebook.
        sum_over_processes(count)
        sum_over_processes(total)
        self.ema_count.lerp_(count, 1 - self.decay)
        self.ema_sum.mul_(self.decay)
        used = torch.nonzero(count).flatten()  # the direction of other codes stays as it is
        rows = self.ema_sum[used].add_(total[used], alpha=1 - self.decay)
        self.ema_sum[used] = rows
        self.codebook[used] = F.normalize(rows, dim=1)
        dead = self.ema_count < 0.05 * self.ema_count.mean()
        if dead.any():
            new = choose_rows(vectors, int(dead.sum()))
            self.codebook[dead] = new
            mean = self.ema_count.mean()
            self.ema_sum[dead] = new * mean
            self.ema_count[dead] = mean
