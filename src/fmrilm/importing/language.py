"""The original's language model, its adapters, and what joins it to the encoder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fmrilm.config.schema import LMConfig, ModelConfig
from fmrilm.errors import InputError
from fmrilm.importing.layouts import State, setting
from fmrilm.lm.adapters import FIRST, SECOND, add_lora, stack_lora
from fmrilm.lm.fmrilm import FMRILM
from fmrilm.lm.language_models import IMPORTED, load_any_text_tokenizer
from fmrilm.tokenizer.tokenizer import FMRITokenizer

WORDS = re.compile(r"(model\.embed_tokens|transformer\.wte)\.weight$")
CODES = "llm.fmri_lm_head.weight"
OUTPUT = "lm_head.weight"
# Constants that older releases of transformers kept among the weights.
CONSTANTS = re.compile(r"(\.h\.\d+\.attn\.(masked_)?bias|rotary_emb\.inv_freq)$")
HEAD_DIMS = {"gpt2": 64}  # features per attention head of every published GPT-2
DEFAULT_LORA = {"lora_r": 8, "lora_alpha": 16}  # of checkpoints that do not say


@dataclass(frozen=True)
class LanguageWeights:
    """A language model's tensors under the names of transformers and peft."""

    base: dict[str, Tensor]
    adapters: dict[str, dict[str, Tensor]]  # adapter -> `module.lora_A` -> tensor


def read_language_model(state: State) -> LanguageWeights:
    """Return the language model of a checkpoint.

    Raises
    ------
    InputError
        If its word embeddings are not where the original has them, or there is an adapter that
        the original does not make.
    """
    prefixes = [WORDS.sub("", n) for n in state.names if n.startswith("llm.") and WORDS.search(n)]
    if len(prefixes) != 1:
        raise InputError(
            f"the checkpoint has {len(prefixes)} language models under llm. (told by "
            "model.embed_tokens or transformer.wte), not one"
        )
    base: dict[str, Tensor] = {}
    adapters: dict[str, dict[str, Tensor]] = {}
    # Half precision stays as small as it is, unless adapters may be added to it.
    take = state.take if any(".lora_" in name for name in state.names) else state.keep
    for name in state.names:
        if not name.startswith(prefixes[0]) or CONSTANTS.search(name):
            continue
        short = name.removeprefix(prefixes[0])
        lora = re.fullmatch(r"(.+\.lora_[AB])\.(\w+)\.weight", short)
        if lora:
            adapters.setdefault(lora[2], {})[lora[1]] = state.take(name)
        elif "lora_" not in short:
            base[short.replace(".base_layer.", ".")] = take(name)
    if set(adapters) not in (set(), {FIRST}, {FIRST, SECOND}):
        raise InputError(
            f"the checkpoint has the adapters {', '.join(sorted(adapters))}: the original has "
            f"{FIRST!r}, and {SECOND!r} on top of it"
        )
    return LanguageWeights(base, adapters)


def build_language_model(weights: LanguageWeights, source: str) -> tuple[Any, Any, str]:
    """Return the language model, its text tokenizer, and where its architecture is known from.

    Parameters
    ----------
    weights : LanguageWeights
    source : str
        Folder or name of the language model that the checkpoint was trained from: its text
        tokenizer and ``config.json``; a folder without the latter leaves the sizes to the shapes.

    Raises
    ------
    InputError
        If the source is another language model than the checkpoint's.
    """
    text_tokenizer = load_any_text_tokenizer(source)
    config, known_from = _architecture(weights.base, source)
    base = dict(weights.base)
    words = next(base[name] for name in base if WORDS.search(name))
    if len(text_tokenizer) > len(words):
        raise InputError(
            f"the text tokenizer of {source} has {len(text_tokenizer)} tokens, the checkpoint's "
            f"language model {len(words)}: --lm is not the one it was trained from"
        )
    output = base.setdefault(OUTPUT, words)
    config.tie_word_embeddings = _same(words, output)
    lm = _empty(config)
    _check_fits(lm, base, source)
    lm.load_state_dict(base, strict=True, assign=True)
    lm.tie_weights()
    return lm.eval(), text_tokenizer, known_from


def _empty(config: Any) -> Any:
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights(include_buffers=False):
        return AutoModelForCausalLM.from_config(
            config, attn_implementation="sdpa", dtype=torch.float32
        )


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and (a.data_ptr() == b.data_ptr() or torch.equal(a, b))


def _check_fits(lm: Any, base: dict[str, Tensor], source: str) -> None:
    expected = {name: tuple(value.shape) for name, value in lm.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in base.items()}
    wrong = sorted(n for n in {*expected, *given} if expected.get(n) != given.get(n))
    if wrong:
        shown = ", ".join(
            f"{n} (checkpoint: {_shape(given.get(n))}, {source}: {_shape(expected.get(n))})"
            for n in wrong[:3]
        )
        raise InputError(
            f"the checkpoint's language model is not {source}, a {lm.config.model_type}: "
            f"{len(wrong)} tensors differ, e.g. {shown}; give --lm the one it was trained from"
        )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else str(list(shape))


def _architecture(base: dict[str, Tensor], source: str) -> tuple[Any, str]:
    """Return the configuration of transformers for a language model, and its source."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            source, trust_remote_code=False
        ), f"config.json of {source}, checked by shapes"
    except (OSError, ValueError):
        config = config_from_shapes(base)
    return config, f"shapes; constants are those published for {config.model_type}"


def config_from_shapes(base: dict[str, Tensor]) -> Any:
    """Return the configuration of a GPT-2 or Qwen3 as its tensors tell it.

    Raises
    ------
    InputError
        If they are those of another architecture.
    """
    from transformers import GPT2Config, Qwen3Config

    words = next(base[name] for name in base if WORDS.search(name))
    vocab, width = words.shape
    depth = len({m[1] for n in base if (m := re.search(r"\.(?:h|layers)\.(\d+)\.", n))})
    if "transformer.h.0.attn.c_attn.weight" in base and width % HEAD_DIMS["gpt2"] == 0:
        return GPT2Config(
            vocab_size=vocab,
            n_embd=width,
            n_layer=depth,
            n_head=width // HEAD_DIMS["gpt2"],
            n_positions=len(base["transformer.wpe.weight"]),
        )
    layer = "model.layers.0."
    if f"{layer}self_attn.q_norm.weight" in base:
        head_dim = len(base[f"{layer}self_attn.q_norm.weight"])
        return Qwen3Config(
            vocab_size=vocab,
            hidden_size=width,
            intermediate_size=len(base[f"{layer}mlp.gate_proj.weight"]),
            num_hidden_layers=depth,
            num_attention_heads=len(base[f"{layer}self_attn.q_proj.weight"]) // head_dim,
            num_key_value_heads=len(base[f"{layer}self_attn.k_proj.weight"]) // head_dim,
            head_dim=head_dim,
            max_position_embeddings=40960,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            rms_norm_eps=1e-6,
        )
    raise InputError(
        "shapes do not show which language model this is (neither GPT-2 nor Qwen3): give --lm a "
        "folder or name with its config.json"
    )


def lora_fields(weights: LanguageWeights, args: Any, alpha: float | None) -> dict[str, Any]:
    """Return the options of the adapters: rank and layers from the tensors, the scale as stated.

    Raises
    ------
    InputError
        If the rank is not the stated one, or the scale is stated nowhere.
    """
    if not weights.adapters:
        return {"peft_tune": False}
    names = [(name, value) for one in weights.adapters.values() for name, value in one.items()]
    ranks = {value.shape[0] for name, value in names if name.endswith("lora_A")}
    layers = sorted({name.split(".")[-2] for name, _ in names})
    if len(ranks) != 1:
        raise InputError(f"the adapters have several ranks: {sorted(ranks)}")
    rank = ranks.pop()
    stated = setting(args, "lora_r")
    if stated not in (None, rank):
        raise InputError(f"model_args says lora_r {stated}, the adapters have rank {rank}")
    scale = alpha if alpha is not None else setting(args, "lora_alpha")
    if scale is None and stated is None and rank == DEFAULT_LORA["lora_r"]:
        scale = DEFAULT_LORA["lora_alpha"]
    if scale is None:
        raise InputError(
            f"nothing in the checkpoint shows the scale of its adapters of rank {rank}: give "
            "--lora_alpha"
        )
    return {
        "peft_tune": True,
        "freeze_pretrained_lora": SECOND in weights.adapters,
        "lora_r": rank,
        "lora_alpha": int(scale),
        "lora_dropout": float(setting(args, "lora_dropout") or 0.0),
        "lora_target_modules": layers,
    }


def add_adapters(lm: Any, weights: LanguageWeights, config: LMConfig) -> Any:
    """Return the language model with the checkpoint's adapters in it.

    Raises
    ------
    InputError
        If an adapter's tensors are not those its layers need.
    """
    if not weights.adapters:
        return lm
    lm = add_lora(lm, config)
    if SECOND in weights.adapters:
        stack_lora(lm, config)
    tensors = {
        f"base_model.model.{name}.{adapter}.weight": value
        for adapter, one in weights.adapters.items()
        for name, value in one.items()
    }
    needed = {name: tuple(p.shape) for name, p in lm.named_parameters() if "lora_" in name}
    if needed != {name: tuple(value.shape) for name, value in tensors.items()}:
        wrong = sorted(set(needed) ^ set(tensors)) or ["their shapes"]
        raise InputError(f"the adapters do not fit the language model: {', '.join(wrong[:3])}")
    lm.load_state_dict(tensors, strict=False)
    return lm


def join(
    state: State, tokenizer: FMRITokenizer, lm: Any, text_tokenizer: Any, config: LMConfig
) -> FMRILM:
    """Return the whole model: encoder, projection, language model.

    Raises
    ------
    InputError
        If the projection fits neither encoder nor language model.
    """
    model = FMRILM(ModelConfig(tokenizer.config.vq_model, config), tokenizer, lm, text_tokenizer)
    zero = torch.zeros_like
    bridge = {
        "projector.0.weight": state.take("encode_transform_layer.0.weight"),
        "projector.0.bias": state.take("encode_transform_layer.0.bias"),
        "roi_embed": state.take("pos_embed.weight"),
        "mask_embed": zero(model.mask_embed),
        "start_embed": zero(model.start_embed),
        "fmri_head.weight": state.take(CODES) if CODES in state else zero(model.fmri_head.weight),
        "fmri_head.bias": zero(model.fmri_head.bias),
    }
    own = model.state_dict()
    for name, value in bridge.items():
        if own[name].shape != value.shape:
            raise InputError(
                f"the checkpoint's {name} has shape {list(value.shape)}; encoder and language "
                f"model need {list(own[name].shape)}"
            )
    model.load_state_dict(bridge, strict=False)
    return model.eval()


def model_fields(state: State, args: Any, prompt_layout: str) -> dict[str, Any]:
    """Return the options of the language model and its projection that a checkpoint states.

    Raises
    ------
    InputError
        If it states what its tensors contradict.
    """
    has_codes = CODES in state
    if setting(args, "use_fmri_lm_head") not in (None, has_codes):
        there = "there" if has_codes else "not there"
        raise InputError(f"model_args.use_fmri_lm_head contradicts the tensors: {CODES} is {there}")
    regions = state.shape("pos_embed.weight")[0]
    if setting(args, "num_rois") not in (None, regions):
        raise InputError(
            f"model_args.num_rois is {setting(args, 'num_rois')}, pos_embed has {regions} rows"
        )
    if setting(args, "use_cls_head"):
        raise InputError("the checkpoint has a classification head, which is not imported")
    fields: dict[str, Any] = {
        "base_model": IMPORTED,
        "projector": "linear",
        "prompt_layout": prompt_layout,
        "summary_tokens": 0,
        "use_fmri_lm_head": has_codes,
    }
    for name in ("add_fmri_delimiter", "dropout", "temperature", "top_p", "top_k"):
        stated = setting(args, name)
        if stated is not None:
            fields[name] = stated
    return fields
