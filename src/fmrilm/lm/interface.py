"""What the functions of this folder ask of a model that reads scans: a type without an import."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from fmrilm.errors import InputError
from fmrilm.lm.configuration import FMRILMConfig
from fmrilm.lm.text import TextEncoder
from fmrilm.tokenizer.masks import attention_bias
from fmrilm.tokenizer.tokenizer import FMRITokenizer

Scan: TypeAlias = tuple[Tensor, Tensor | None]  # series (B, R, T) and mask, (B, R) or (B, R, T)


class ScanReader(Protocol):
    """A language model behind scan tokens: :class:`fmrilm.lm.fmrilm.FMRILM` is one.

    Attributes
    ----------
    config : FMRILMConfig
    tokenizer : FMRITokenizer
    text : TextEncoder
    lm : PreTrainedModel or PeftModel
    """

    config: FMRILMConfig
    tokenizer: FMRITokenizer
    text: TextEncoder
    lm: Any
    projector: Any
    roi_embed: Any
    start_embed: Any
    cls_head: Any
    dropout: Any
    summary: Any

    @property
    def device(self) -> Any:
        """Where the weights are."""

    def read(self, *args: Any, **kwargs: Any) -> Any:
        """See :class:`fmrilm.lm.reader.FMRIReader`."""

    def project(self, *args: Any, **kwargs: Any) -> Any:
        """See :class:`fmrilm.lm.reader.FMRIReader`."""

    def last_states(self, *args: Any, **kwargs: Any) -> Any:
        """See :class:`fmrilm.lm.reader.FMRIReader`."""

    def code_logits(self, *args: Any, **kwargs: Any) -> Any:
        """See :class:`fmrilm.lm.reader.FMRIReader`."""

    def text_loss(self, *args: Any, **kwargs: Any) -> Any:
        """See :class:`fmrilm.lm.reader.FMRIReader`."""

    def prepare_activations(self, *args: Any, **kwargs: Any) -> Any:
        """See :class:`fmrilm.lm.reader.FMRIReader`."""


def check_length(position: Tensor, lm: Any) -> None:
    """Raise :class:`InputError` if a language model has no position for the end of a prompt.

    Regions of a time step share a position, so positions are fewer than tokens: looked up only
    where there are more tokens than positions.

    Parameters
    ----------
    position : Tensor of long, shape (B, L)
    lm : PreTrainedModel
    """
    most = getattr(lm.config, "max_position_embeddings", None)
    if most is None or position.shape[1] <= most:
        return
    needed = int(position.max()) + 1
    if needed > most:
        raise InputError(
            f"a prompt needs {needed} positions, the language model has {most}: take another one, "
            "longer time patches (model.vq_model.patch_size), or fewer facts and shorter texts"
        )


def attention_masks(
    lm: Any, query: Tensor, key: Tensor, valid: Tensor, dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """The masks that a language model is given: who sees whom, as an additive bias.

    Layers with a sliding window (Mistral, Gemma 3) see what the prefix rule allows and lies fewer
    positions back than the window is wide; where layers differ there is a mask for each kind.

    Parameters
    ----------
    lm : PreTrainedModel
    query : Tensor of long, shape (B, L)
        Positions of the tokens that look.
    key : Tensor of long, shape (B, K)
        Positions of the tokens that are looked at.
    valid : Tensor of bool, shape (B, K)
    dtype : torch.dtype

    Returns
    -------
    masks : Tensor, shape (B, 1, L, K), or dict of them by the kind of layer
    """
    whole = attention_bias(query, key, valid, dtype)
    config = lm.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if not window or (kinds is not None and "sliding_attention" not in kinds):
        return whole
    far = (query[:, :, None] - key[:, None, :] >= window)[:, None]
    near = whole.masked_fill(far, torch.finfo(dtype).min)
    return near if kinds is None else {"full_attention": whole, "sliding_attention": near}
