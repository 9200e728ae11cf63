"""Who sees whom: one rule for the encoder, the language model and cached decoding.

Every token carries a position. All regions of a time step share one position, text tokens have one
each, so "a token sees what does not come later" is at once block-causal over time steps and causal
over text, and text sees the whole scan in front of it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attention_bias(
    query_position: Tensor, key_position: Tensor, key_valid: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return the additive attention mask: 0 where a query may look, the dtype's minimum elsewhere.

    Parameters
    ----------
    query_position : Tensor of long, shape (B, Q)
    key_position : Tensor of long, shape (B, K)
    key_valid : Tensor of bool, shape (B, K)
        False for padding and for masked regions.
    dtype : torch.dtype
        Of the scores.

    Returns
    -------
    Tensor, shape (B, 1, Q, K)
        Additive, not boolean: eager attention of transformers reads a boolean mask wrongly.
    """
    seen = (key_position[:, None, :] <= query_position[:, :, None]) & key_valid[:, None, :]
    bias = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return bias.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def sample_mask(roi_mask: Tensor) -> Tensor:
    """Return a mask that multiplies series (B, R, T), from one (B, R) or (B, R, T)."""
    return roi_mask if roi_mask.ndim == 3 else roi_mask[:, :, None]


def region_mask(roi_mask: Tensor) -> Tensor:
    """Return the usable regions (B, R), from a mask (B, R) or (B, R, T)."""
    return roi_mask.any(2) if roi_mask.ndim == 3 else roi_mask


def pair_mask(roi_mask: Tensor) -> Tensor:
    """Return the pairs of usable regions (B, R, R), from a mask (B, R) or (B, R, T)."""
    usable = region_mask(roi_mask)
    return usable[:, :, None] & usable[:, None, :]


def patch_mask(roi_mask: Tensor, num_steps: int) -> Tensor:
    """Return the patches with at least one real sample, time-major, shape (B, S * R).

    Parameters
    ----------
    roi_mask : Tensor of bool, shape (B, R) or (B, R, T)
        Usable regions, or usable samples where scans are padded.
    num_steps : int
        Time patches S of a scan.
    """
    if roi_mask.ndim == 2:
        return roi_mask.repeat(1, num_steps)
    return roi_mask.unflatten(2, (num_steps, -1)).any(3).transpose(1, 2).flatten(1)


def positions(is_scan: Tensor, valid: Tensor, num_rois: int) -> Tensor:
    """Return the position of every token, shape (B, L): one per time step, one per text token.

    Parameters
    ----------
    is_scan : Tensor of bool, shape (B, L)
        Where the scan's tokens stand, time-major.
    valid : Tensor of bool, shape (B, L)
        False for padding.
    num_rois : int
        Tokens per time step.
    """
    place = is_scan.long().cumsum(1) - 1  # how many scan tokens came before
    starts = torch.where(is_scan, place % num_rois == 0, valid)
    return (starts.long().cumsum(1) - 1).clamp_(min=0)
