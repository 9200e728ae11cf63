"""Losses of stage 1: reconstruction, connectivity, alignment with text."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmrilm.models.masks import pair_mask, region_mask, sample_mask
from fmrilm.models.vit import connectivity


def reconstruction_loss(prediction: Tensor, target: Tensor, roi_mask: Tensor, kind: str) -> Tensor:
    """Return the mean error over usable samples; ``kind`` is ``mse`` or ``smooth_l1``."""
    measure = F.mse_loss if kind == "mse" else F.smooth_l1_loss
    real = sample_mask(roi_mask).expand_as(target)
    error = measure(prediction, target, reduction="none") * real
    return error.sum() / real.sum().clamp_min(1)


def connectivity_loss(prediction: Tensor, target: Tensor, roi_mask: Tensor) -> Tensor:
    """Return the mean squared difference of the regions' correlations (Fisher z)."""
    T = target.shape[2]
    difference = connectivity(prediction, roi_mask, T) - connectivity(target, roi_mask, T)
    return difference[:, 0].square()[pair_mask(roi_mask)].mean()


def spectral_loss(prediction: Tensor, target: Tensor, roi_mask: Tensor) -> Tensor:
    """Return the mean absolute difference of the regions' amplitude spectra.

    A squared error alone is lowest where what cannot be told is left out, fast fluctuations first;
    this term asks for their amplitude back.
    """
    real, usable = sample_mask(roi_mask), region_mask(roi_mask)
    spectra = [torch.fft.rfft(x * real, norm="ortho").abs() for x in (prediction, target)]
    error = (spectra[0] - spectra[1]).abs().mean(2)  # (B, R)
    return (error * usable).sum() / usable.sum().clamp_min(1)


class TextAlignment(nn.Module):
    """Pull a scan's features towards the embedding of its own description.

    ``clip`` is the symmetric softmax loss of arXiv 2103.00020; ``siglip`` the pairwise sigmoid
    loss of arXiv 2303.15343. Descriptions that are the same text are positives of each other. The
    ``soft_`` kinds replace the hard targets by how alike the descriptions are: a softmax over their
    cosines (arXiv 2303.17561), or for the sigmoid loss the cosines, negative ones as 0.

    Parameters
    ----------
    scan_dim, text_dim : int
        Widths of the two sides.
    dim : int
        Width of the shared space.
    kind : str
        ``clip``, ``siglip``, ``soft_clip`` or ``soft_siglip``.
    """

    temperature = 0.1  # of the soft targets of ``soft_clip``

    def __init__(self, scan_dim: int, text_dim: int, dim: int = 512, kind: str = "siglip") -> None:
        super().__init__()
        self.kind = kind
        self.scan_proj = nn.Linear(scan_dim, dim)
        self.text_proj = nn.Linear(text_dim, dim)
        # The learned temperature is kept as a logarithm, so that it stays positive.
        self.log_scale = nn.Parameter(torch.tensor(10.0 if self.is_pairwise else 1 / 0.07).log())
        self.shift = nn.Parameter(torch.tensor(-10.0 if self.is_pairwise else 0.0))

    @property
    def is_pairwise(self) -> bool:
        """Whether every pair is judged by itself (sigmoid) or against the batch (softmax)."""
        return self.kind.endswith("siglip")

    def similarity(self, scans: Tensor, texts: Tensor) -> Tensor:
        """Return the logits (B, B) of every scan (B, scan_dim) with every text (B, text_dim)."""
        scans = F.normalize(self.scan_proj(scans), dim=-1)
        texts = F.normalize(self.text_proj(texts), dim=-1)
        return self.log_scale.clamp(max=4.6).exp() * scans @ texts.T + self.shift

    def forward(self, scans: Tensor, texts: Tensor) -> Tensor:
        """Return the alignment loss of a batch of pairs."""
        logits = self.similarity(scans, texts)
        same = (texts[:, None] == texts[None, :]).all(-1)
        alike = F.normalize(texts, dim=-1)
        alike = alike @ alike.T
        if self.kind == "siglip":
            return -F.logsigmoid(torch.where(same, logits, -logits)).sum(1).mean()
        if self.kind == "soft_siglip":
            target = torch.where(same, 1.0, alike.clamp(0, 1))
            return (
                F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()
            )
        target = same / same.sum(1, keepdim=True)
        if self.kind == "soft_clip":
            target = (alike / self.temperature).softmax(1)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
