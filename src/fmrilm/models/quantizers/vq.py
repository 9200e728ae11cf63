"""Vector quantization with a cosine codebook kept by moving averages.

van den Oord et al., arXiv 1711.00937 (VQ-VAE, appendix A.1: EMA); cosine codes as in
Yu et al., arXiv 2110.04627.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmrilm.models.quantizers.base import QUANTIZERS, Quantizer, QuantizerOutput


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
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 8192,
        code_dim: int = 128,
        decay: float = 0.99,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        self.dim, self.codebook_size, self.decay, self.beta = dim, codebook_size, decay, beta
        self.project_in = nn.Linear(dim, code_dim)
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
        flat = vectors.reshape(-1, vectors.shape[-1])
        kept = flat if valid is None else flat[valid.reshape(-1)]
        with torch.no_grad():
            indices = (flat @ self.codebook.T).argmax(1)
        if self.training:
            self._update(kept.detach(), indices if valid is None else indices[valid.reshape(-1)])
        codes = self.codebook[indices].view_as(vectors)
        distance = 1 - (vectors * codes).sum(-1)  # half the squared distance of unit vectors
        loss = distance.mean() if valid is None else distance[valid].mean()
        through = vectors + (codes - vectors).detach()
        return QuantizerOutput(
            self.project_out(through), indices.view(x.shape[:-1]), self.beta * loss
        )

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Return the vectors (..., dim) of the given indices."""
        return self.project_out(self.codebook[indices])

    @torch.no_grad()
    def init_codebook(self, x: Tensor) -> None:
        """Start the codebook from k-means over vectors (n, dim), at least one per code.

        Raises
        ------
        ValueError
            If there are fewer vectors than codes: some codes would be duplicates.
        """
        if len(x) < self.codebook_size:
            raise ValueError(f"{len(x)} vectors are too few for {self.codebook_size} codes")
        self.codebook.copy_(_kmeans(self._unit(x), self.codebook_size))
        self.ema_sum.copy_(self.codebook)
        self.ema_count.fill_(1)

    def _unit(self, x: Tensor) -> Tensor:
        return F.normalize(self.project_in(x).float(), dim=-1)

    @torch.no_grad()
    def _update(self, vectors: Tensor, indices: Tensor) -> None:
        count = torch.bincount(indices, minlength=self.codebook_size).to(vectors.dtype)
        total = torch.zeros_like(self.ema_sum).index_add_(0, indices, vectors)
        self.ema_count.lerp_(count, 1 - self.decay)
        self.ema_sum.lerp_(total, 1 - self.decay)
        self.codebook.copy_(F.normalize(self.ema_sum, dim=1))
        dead = self.ema_count < 0.05 * self.ema_count.mean()
        if dead.any():
            chosen = torch.randint(len(vectors), (int(dead.sum()),), device=vectors.device)
            self.codebook[dead] = vectors[chosen]
            mean = self.ema_count.mean()
            self.ema_sum[dead] = vectors[chosen] * mean
            self.ema_count[dead] = mean


def _kmeans(vectors: Tensor, clusters: int, rounds: int = 10) -> Tensor:
    """Return unit cluster centres (clusters, dim) of unit vectors (n, dim)."""
    centres = vectors[torch.randperm(len(vectors), device=vectors.device)[:clusters]].clone()
    for _ in range(rounds):
        nearest = (vectors @ centres.T).argmax(1)
        total = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        used = torch.bincount(nearest, minlength=clusters) > 0
        centres[used] = F.normalize(total[used], dim=1)
    return centres
