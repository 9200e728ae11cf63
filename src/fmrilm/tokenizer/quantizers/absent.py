"""The quantizer of an encoder that came without codes, as a language model's file holds it."""

from __future__ import annotations

import torch
from torch import Tensor

from fmrilm.errors import InputError
from fmrilm.tokenizer.quantizers.base import Quantizer, QuantizerOutput


class NoQuantizer(Quantizer):
    """Pass vectors on as they are.

    It is no entry of the registry: nothing can be trained with it that needs codes, and what asks
    for codes is refused (:attr:`FMRITokenizer.has_codes`).

    Parameters
    ----------
    dim : int
        Width of the vectors.
    codebook_size : int
        Codes that a language model's head can still name.
    """

    def __init__(self, dim: int, codebook_size: int) -> None:
        super().__init__()
        self.dim, self.codebook_size = dim, codebook_size

    def forward(self, x: Tensor, valid: Tensor | None = None) -> QuantizerOutput:
        """Return ``x`` (B, N, dim) itself; the indices mean nothing."""
        indices = torch.zeros(x.shape[:-1], dtype=torch.long, device=x.device)
        return QuantizerOutput(x, indices, x.new_zeros(()))

    def indices_to_codes(self, indices: Tensor) -> Tensor:
        """Refuse: no index stands for a vector."""
        raise InputError(NO_CODES)

    def check_codes(self) -> None:
        """Raise :class:`InputError`: there are none."""
        raise InputError(NO_CODES)


NO_CODES = (
    "this tokenizer is an encoder alone (quantizer: none), without codes or decoder: use one of "
    "stage 1, or leave out what needs codes (align.fmri_only_weight=0)"
)
