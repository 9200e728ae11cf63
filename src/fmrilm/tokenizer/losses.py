"""Losses of stage 1 over what comes back: samples, connectivity, spectrum."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fmrilm.tokenizer.encoder import connectivity
from fmrilm.tokenizer.masks import pair_mask, region_mask, sample_mask


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
