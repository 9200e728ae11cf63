"""A scan in a few numbers: principal components of the scan itself, learned without any label.

Hundreds of tokens hold what distinguishes people in many weak parts, which a language model that
has seen some hundred scans cannot add up. The leading components over the training scans can be
read by one linear layer (docs/results/experiments.md says what that is worth). They are those
of the regions' connectivity and level, or of the series where a window is too short for a
correlation.

Tensor letters: n scans, R regions, T time points, M columns of a scan's matrix (R + 1 or T), q
spatial modes, C components, K summary tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from fmrilm.tokenizer.encoder import connectivity
from fmrilm.tokenizer.masks import pair_mask, sample_mask

MODES = 100  # q: spatial modes that are kept before components are sought


class ScanSummary(nn.Module):
    """Turn scans into ``count`` tokens of the language model.

    Two principal component analyses (:meth:`fit`), first over regions, then over scans, and one
    trained linear layer. Components that the training scans cannot tell, since there are too few,
    stay zero.

    Parameters
    ----------
    shape : (int, int)
        Regions and time points of a scan, R and T.
    of_connectivity : bool
        Sum up the regions' correlations (Fisher z) and means; otherwise the series.
    count : int
        Summary tokens K.
    components : int
        C.
    width : int
        Of the language model.
    dropout : float
        Share of the components left out in training.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        of_connectivity: bool,
        count: int,
        components: int,
        width: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        R, T = shape
        q = min(MODES, R)
        self.count = count
        self.of_connectivity = of_connectivity
        self.dropout = nn.Dropout(dropout)
        self.mean: Tensor
        self.modes: Tensor
        self.axes: Tensor
        self.register_buffer("mean", torch.zeros(R, R + 1 if of_connectivity else T))
        self.register_buffer("modes", torch.zeros(R, q))
        size = q * (q + 1) // 2 + q if of_connectivity else q * T
        self.register_buffer("axes", torch.zeros(size, components))
        self.proj = nn.Linear(components, count * width)
        nn.init.normal_(self.proj.weight, std=0.02)
        nn.init.zeros_(self.proj.bias)

    def scores(self, fmri: Tensor, roi_mask: Tensor) -> Tensor:
        """Return the components (n, C) of scans: their mean variance over training scans is 1.

        Strong components stay strong: with the same variance for all, the many weak ones, which
        are mostly noise, are what a model with few scans learns from.

        Parameters
        ----------
        fmri : Tensor, shape (n, R, T)
        roi_mask : Tensor of bool, shape (n, R) or (n, R, T)
            What is masked is taken to be average.
        """
        matrix, known = self._matrix(fmri, roi_mask)
        return self._reduce((matrix - self.mean) * known) @ self.axes

    def forward(self, fmri: Tensor, roi_mask: Tensor) -> Tensor:
        """Return the summary tokens (n, K, width)."""
        return self.proj(self.dropout(self.scores(fmri, roi_mask))).unflatten(1, (self.count, -1))

    def _matrix(self, fmri: Tensor, roi_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the matrices (n, R, M) of scans, and which of their entries are known."""
        real = sample_mask(roi_mask).expand_as(fmri)
        if not self.of_connectivity:
            return fmri, real
        z = connectivity(fmri, roi_mask, fmri.shape[2])[:, 0]
        level = (fmri * real).sum(2, keepdim=True) / real.sum(2, keepdim=True).clamp_min(1)
        known = torch.cat([pair_mask(roi_mask), real.any(2, keepdim=True)], 2)
        return torch.cat([z, level], 2), known

    def _reduce(self, centred: Tensor) -> Tensor:
        """Return centred matrices (n, R, M) in spatial modes, one row of numbers per scan."""
        reduced = self.modes.T @ centred  # (n, q, M)
        if not self.of_connectivity:
            return reduced.flatten(1)
        pairs = reduced[:, :, :-1] @ self.modes  # (n, q, q), symmetric
        row, column = torch.triu_indices(*pairs.shape[1:], device=pairs.device)
        twice = torch.where(row == column, 1.0, 2**0.5)  # an entry off the diagonal stands twice
        return torch.cat([pairs[:, row, column] * twice, reduced[:, :, -1]], 1)

    @torch.no_grad()
    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Learn mean, modes and components from training scans.

        Parameters
        ----------
        batches : callable
            Gives batches of scans (n, R, T) and masks; called three times.
        """
        self._fit_modes(batches)
        reduced = torch.cat([self._reduce(one).cpu() for one in self._centred(batches())])
        self.axes.copy_(principal_axes(reduced, self.axes.shape[1]))

    @torch.no_grad()
    def _fit_modes(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Learn the mean matrix of training scans, and the spatial modes of what is around it."""
        total = torch.zeros_like(self.mean)
        count = torch.zeros_like(self.mean)
        for fmri, roi_mask in batches():
            matrix, known = self._matrix(fmri, roi_mask)
            total += (matrix * known).sum(0)
            count += known.sum(0)
        self.mean.copy_(total / count.clamp_min(1))
        moments = torch.zeros(len(self.modes), len(self.modes), dtype=torch.float64)
        for centred in self._centred(batches()):
            moments += torch.einsum("nrm,nsm->rs", centred, centred).double().cpu()
        self.modes.copy_(torch.linalg.eigh(moments)[1].flip(1)[:, : self.modes.shape[1]])

    def _centred(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterable[Tensor]:
        for fmri, roi_mask in batches:
            matrix, known = self._matrix(fmri, roi_mask)
            yield (matrix - self.mean) * known


def principal_axes(x: Tensor, count: int) -> Tensor:
    """Axes (numbers, count) of centred rows (n, numbers): their scores' mean variance is 1.

    Axes that the rows cannot tell, since there are too few of them, are zero.
    """
    # Scans are fewer than the numbers that describe one: their small Gram matrix is enough.
    values, vectors = torch.linalg.eigh((x @ x.T).double())
    keep = min(count, len(x) - 1)
    values, vectors = values.flip(0)[:keep], vectors.flip(1)[:, :keep]
    real = values > 1e-6 * values[:1].clamp_min(1e-12)
    axes = torch.zeros(x.shape[1], count)
    if real.any():
        size = (values[real].mean() / len(x)).sqrt()
        scale = torch.where(real, 1 / (values.clamp_min(1e-12).sqrt() * size), 0.0)
        axes[:, :keep] = x.T @ (vectors * scale).to(x.dtype)
    return axes
