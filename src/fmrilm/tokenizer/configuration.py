"""The configuration of the fMRI tokenizer, as transformers keeps configurations."""

from __future__ import annotations

import dataclasses
from typing import Any

from transformers import PreTrainedConfig

from fmrilm.config.schema import TokenizerConfig


class FMRITokenizerConfig(PreTrainedConfig):
    """Options of an fMRI tokenizer; they are read as its attributes.

    Parameters
    ----------
    vq_model : TokenizerConfig or dict
    **keys
        What transformers keeps in a ``config.json`` besides.

    Examples
    --------
    >>> FMRITokenizerConfig({"num_rois": 40}).num_rois
    40
    """

    model_type = "fmrilm_tokenizer"

    def __init__(self, vq_model: TokenizerConfig | dict[str, Any] | None = None, **keys: Any):
        self.vq_model = options_of(TokenizerConfig, vq_model)
        super().__init__(**keys)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "vq_model" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.vq_model, name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``config.json``."""
        return super().to_dict() | {"vq_model": dataclasses.asdict(self.vq_model)}

    def to_diff_dict(self) -> dict[str, Any]:
        """All options: a default of today may be another one tomorrow."""
        return own_keys(self.to_dict(), ("vq_model",))


def options_of(kind: type[Any], given: Any) -> Any:
    """A part of a configuration as its dataclass, from one or from plain values."""
    return given if isinstance(given, kind) else kind(**given or {})


def own_keys(values: dict[str, Any], parts: tuple[str, ...]) -> dict[str, Any]:
    """What a ``config.json`` of ours holds: our parts, and what transformers tells models by."""
    kept = ("model_type", "architectures", "transformers_version", *parts)
    return {name: values[name] for name in kept if values.get(name) is not None}
