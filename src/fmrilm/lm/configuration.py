"""The configuration of an fMRI language model, as transformers keeps configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig

from fmrilm.config.schema import LMConfig, ModelConfig, TokenizerConfig
from fmrilm.tokenizer.configuration import options_of, own_keys


class FMRILMConfig(PreTrainedConfig):
    """Options of a model: its fMRI tokenizer (``vq_model``) and its language model (``lm``).

    Parameters
    ----------
    vq_model : TokenizerConfig or dict
    lm : LMConfig or dict
    evidence : sequence of str
        Tasks that have a reader, by their place among the summary tokens.
    **keys
        What transformers keeps in a ``config.json`` besides.
    """

    model_type = "fmrilm"

    def __init__(
        self,
        vq_model: TokenizerConfig | dict[str, Any] | None = None,
        lm: LMConfig | dict[str, Any] | None = None,
        evidence: Sequence[str] = (),
        **keys: Any,
    ) -> None:
        self.vq_model = options_of(TokenizerConfig, vq_model)
        self.lm = options_of(LMConfig, lm)
        self.evidence = list(evidence)
        super().__init__(**keys)

    @classmethod
    def of(cls, options: ModelConfig) -> FMRILMConfig:
        """The configuration of a ``model:`` section."""
        return cls(options.vq_model, options.lm)

    def options(self) -> ModelConfig:
        """The ``model:`` section."""
        return ModelConfig(self.vq_model, self.lm)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``config.json``."""
        return super().to_dict() | dataclasses.asdict(self.options())

    def to_diff_dict(self) -> dict[str, Any]:
        """All options: a default of today may be another one tomorrow."""
        return own_keys(self.to_dict(), ("vq_model", "lm", "evidence"))
