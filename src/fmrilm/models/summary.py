"""A scan in a few numbers: principal components of its tokens, learned without any label.

Hundreds of tokens hold what distinguishes people in many weak parts, which a language model that
has seen some hundred scans cannot add up. Their leading components over the training scans can be
read by one linear layer (docs/experiments.md says what that is worth).

Tensor letters: n scans, N tokens, D their width, d kept of it, C components, K summary tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

TOKEN_WIDTH = 16  # d: what is kept of a token's width before components are sought


class ScanSummary(nn.Module):
    """Turn the features of all tokens of a scan into ``count`` tokens of the language model.

    Two principal component analyses (:meth:`fit`) and one trained linear layer. Components that
    the training scans cannot tell, since there are too few, stay zero.

    Parameters
    ----------
    num_tokens, feature_width : int
        N and D.
    count : int
        Summary tokens K.
    components : int
        C.
    width : int
        Of the language model.
    """

    def __init__(
        self,
        num_tokens: int,
        feature_width: int,
        count: int,
        components: int,
        width: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kept = min(TOKEN_WIDTH, feature_width)
        self.count = count
        self.dropout = nn.Dropout(dropout)
        self.mean: Tensor
        self.token_axes: Tensor
        self.axes: Tensor
        self.register_buffer("mean", torch.zeros(num_tokens, feature_width))
        self.register_buffer("token_axes", torch.zeros(feature_width, kept))
        self.register_buffer("axes", torch.zeros(num_tokens * kept, components))
        self.proj = nn.Linear(components, count * width)
        nn.init.normal_(self.proj.weight, std=0.02)
        nn.init.zeros_(self.proj.bias)

    def scores(self, features: Tensor, usable: Tensor | None = None) -> Tensor:
        """Return the components (n, C) of features (n, N, D): their mean variance over scans is 1.

        Strong components stay strong: with the same variance for all, the many weak ones, which
        are mostly noise, are what a model with few scans learns from.

        Parameters
        ----------
        features : Tensor, shape (n, N, D)
        usable : Tensor of bool, shape (n, N), optional
            Tokens that count; others are taken to be average.
        """
        centred = features - self.mean
        if usable is not None:
            centred = centred * usable[:, :, None]
        return (centred @ self.token_axes).flatten(1) @ self.axes

    def forward(self, features: Tensor, usable: Tensor | None = None) -> Tensor:
        """Return the summary tokens (n, K, width)."""
        return self.proj(self.dropout(self.scores(features, usable))).unflatten(1, (self.count, -1))

    @torch.no_grad()
    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Learn the components from training scans.

        Parameters
        ----------
        batches : callable
            Gives batches of features (n, N, D) and usable tokens (n, N); called twice.
        """
        N, D = self.mean.shape
        total, square = torch.zeros(N, D), torch.zeros(D, D, dtype=torch.float64)
        count = torch.zeros(N, 1)
        for features, usable in batches():
            x = (features * usable[:, :, None]).float().cpu()
            total += x.sum(0)
            count += usable.cpu().sum(0)[:, None]
            flat = x.flatten(0, 1)
            square += (flat.T @ flat).double()
        mean = total / count.clamp_min(1)
        square -= ((mean * count).T @ mean).double()
        self.mean.copy_(mean)
        self.token_axes.copy_(torch.linalg.eigh(square)[1].flip(1)[:, : self.token_axes.shape[1]])
        parts = [
            ((features - self.mean) * usable[:, :, None] @ self.token_axes).flatten(1).cpu()
            for features, usable in batches()
        ]
        self._fit_axes(torch.cat(parts))

    def _fit_axes(self, x: Tensor) -> None:
        """Set the components of reduced scans (n, N * d), of mean variance 1 over them."""
        # Scans are fewer than the numbers that describe one: their small Gram matrix is enough.
        values, vectors = torch.linalg.eigh((x @ x.T).double())
        keep = min(self.axes.shape[1], len(x) - 1)
        values, vectors = values.flip(0)[:keep], vectors.flip(1)[:, :keep]
        real = values > 1e-6 * values[:1].clamp_min(1e-12)
        size = (values[real].mean() / len(x)).sqrt()
        scale = torch.where(real, 1 / (values.clamp_min(1e-12).sqrt() * size), 0.0)
        self.axes.zero_()
        self.axes[:, :keep] = (x.T @ (vectors * scale).to(x.dtype)).to(self.axes.device)
