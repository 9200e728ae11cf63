"""Causal language models: any of Hugging Face's, or the built-in ``tiny`` one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from fmrilm.config import LMConfig
from fmrilm.errors import InputError
from fmrilm.models.text import load_text_tokenizer, train_text_tokenizer


def load_language_model(config: LMConfig, texts: Iterable[str] = ()) -> tuple[Any, Any]:
    """Return a causal language model and its text tokenizer.

    Parameters
    ----------
    config : LMConfig
        ``base_model`` is a folder, a name on the Hugging Face hub, or ``tiny``.
    texts : iterable of str
        What the built-in model's text tokenizer is trained on.

    Raises
    ------
    InputError
        If the model cannot be found or is no causal language model.
    """
    if config.base_model == "tiny":
        return build_tiny(config, texts)
    from transformers import AutoModelForCausalLM

    try:
        text_tokenizer = load_text_tokenizer(config.base_model)
        lm = AutoModelForCausalLM.from_pretrained(
            config.base_model, attn_implementation="sdpa", dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"cannot load the language model {config.base_model!r} ({reason}): give a folder with "
            "its files, a Hugging Face name that is cached or reachable, or 'tiny'"
        ) from None
    return lm, text_tokenizer


def build_tiny(config: LMConfig, texts: Iterable[str]) -> tuple[Any, Any]:
    """Return a small randomly started Qwen3 and a text tokenizer trained on ``texts``.

    Raises
    ------
    InputError
        If there are no texts.
    """
    from transformers import Qwen3Config, Qwen3ForCausalLM

    texts = list(texts)
    if not texts:
        raise InputError("base_model 'tiny' needs texts to train its text tokenizer on")
    text_tokenizer = train_text_tokenizer(texts, config.tiny_vocab)
    heads = max(1, config.tiny_width // 32)
    eos = text_tokenizer.eos_token_id
    lm = Qwen3ForCausalLM._from_config(
        Qwen3Config(
            vocab_size=len(text_tokenizer),
            hidden_size=config.tiny_width,
            intermediate_size=-(-8 * config.tiny_width // 96) * 32,
            num_hidden_layers=config.tiny_depth,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=32,
            tie_word_embeddings=True,
            bos_token_id=eos,
            eos_token_id=eos,
            pad_token_id=eos,
        ),
        attn_implementation="sdpa",
    )
    return lm, text_tokenizer


def add_lora(lm: Any, config: LMConfig) -> Any:
    """Return the language model with a LoRA adapter (peft); only the adapter is trainable."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        lm,
        LoraConfig(
            r=config.lora_r,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=config.lora_target_modules,
            task_type="CAUSAL_LM",
        ),
    )


def save_language_model(lm: Any, text_tokenizer: Any, folder: Path) -> None:
    """Write the language model, its adapter if it has one, and its text tokenizer."""
    text_tokenizer.save_pretrained(folder)
    if hasattr(lm, "peft_config"):
        lm.save_pretrained(folder / "adapter")
        with _without_adapter_names(lm) as (base, state):
            base.save_pretrained(folder, state_dict=state)
    else:
        lm.save_pretrained(folder)


class _without_adapter_names:  # noqa: N801  (reads as a statement)
    """The base model of a peft model, with the state dict it had before LoRA was put in."""

    def __init__(self, lm: Any) -> None:
        self.base = lm.get_base_model()
        self.state = {
            name.replace(".base_layer", ""): value
            for name, value in self.base.state_dict().items()
            if "lora_" not in name
        }

    def __enter__(self) -> tuple[Any, dict[str, torch.Tensor]]:
        return self.base, self.state

    def __exit__(self, *_: object) -> None: ...
