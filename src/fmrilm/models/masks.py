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
