"""Attention that leaves out the pairs of tokens no one may look at.

Behind a scan text is causal: what stands later is masked for most pairs of text tokens and for all
pairs of scan and text. A dense mask computes those pairs and throws them away; here the rows are
cut into segments that see only the columns up to their own end. The result is the same.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NAME = "fmrilm_segments"
ROWS = 128  # text rows of a segment


def use_segments(lm: Any) -> bool:
    """Let a language model compute attention in segments and return whether it can."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    implementation = lm.config._attn_implementation
    if implementation == "sdpa" and lm._supports_attention_backend:
        ALL_ATTENTION_FUNCTIONS.register(NAME, segmented_attention)
        ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
        lm.set_attn_implementation(NAME)
    return lm.config._attn_implementation == NAME


def segmented_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scan_end: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return attention's output (B, L, H, D), as transformers calls it.

    Parameters
    ----------
    module : nn.Module
        The attention layer.
    query, key, value : Tensor, shape (B, H, L, D)
        Keys and values of fewer heads where heads share them.
    attention_mask : Tensor, shape (B, 1, L, L)
        Additive.
    scan_end : int, optional
        Column behind the last scan token; no row looks at a column behind both itself and this.
        None: nothing is known, all pairs are computed.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    L = query.shape[2]
    if scan_end is None or attention_mask is None or key.shape[2] != L:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    edges = [0, *range(scan_end or ROWS, L, ROWS), L]
    parts = [
        F.scaled_dot_product_attention(
            query[:, :, start:end],
            key[:, :, :end],
            value[:, :, :end],
            attention_mask[:, :, start:end, :end],
            dropout_p=options.get("dropout", 0.0),
            scale=options.get("scaling"),
            enable_gqa=query.shape[1] != key.shape[1],  # not copied for the heads that share them
        )
        for start, end in pairwise(edges)
    ]
    return torch.cat(parts, 2).transpose(1, 2), None
