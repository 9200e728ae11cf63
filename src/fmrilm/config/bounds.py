"""The range of every number in the configuration: what is outside cannot be meant."""

from __future__ import annotations

import math
from typing import Any

from fmrilm.errors import InputError

MANY = 2**31 - 1
MOST_CODES = 2**20
_SHARE = (0.0, 1.0)
_BELOW_ONE = (0.0, 0.999_999)
_WEIGHT = (0.0, 1e6)
_TINY = 1e-12  # stands for "above 0"

# key -> smallest and largest value
BOUNDS: dict[str, tuple[float, float]] = {
    "model.vq_model.patch_size": (1, 100_000),
    "model.vq_model.num_rois": (1, 100_000),
    "model.vq_model.num_timestamp": (1, 100_000),
    "model.vq_model.n_embd": (1, 16_384),
    "model.vq_model.n_layer": (1, 256),
    "model.vq_model.n_head": (1, 256),
    "model.vq_model.dec_layer": (0, 256),
    "model.vq_model.drop_path": _BELOW_ONE,
    "model.vq_model.dropout": _BELOW_ONE,
    "model.vq_model.codebook_size": (1, MOST_CODES),  # 1: a file of the original without codes
    "model.vq_model.code_dim": (1, 16_384),
    "model.vq_model.decay": _BELOW_ONE,
    "model.vq_model.beta": _WEIGHT,
    "model.vq_model.num_quantizers": (1, 32),
    "model.vq_model.decoder_eps": (_TINY, 1.0),
    "model.vq_model.num_latent_tokens": (1, 65_536),
    "model.lm.num_fmri_tokens": (1, MANY),
    "model.lm.num_rois": (1, MANY),
    "model.lm.fmri_vocab_size": (1, MANY),
    "model.lm.summary_tokens": (0, 1024),
    "model.lm.summary_components": (1, 65_536),
    "model.lm.summary_dropout": _BELOW_ONE,
    "model.lm.token_dropout": _SHARE,
    "model.lm.dropout": _BELOW_ONE,
    "model.lm.lora_r": (1, 4096),
    "model.lm.lora_alpha": (1, 65_536),
    "model.lm.lora_dropout": _BELOW_ONE,
    "model.lm.num_classes": (1, 65_536),
    "model.lm.temperature": (0.0, 100.0),
    "model.lm.top_p": (_TINY, 1.0),
    "model.lm.top_k": (0, MANY),
    "model.lm.tiny_width": (1, 8192),
    "model.lm.tiny_depth": (1, 128),
    "model.lm.tiny_vocab": (300, 2**20),
    "train.epochs": (1, 1_000_000),
    "train.batch_size": (1, 1_000_000),
    "train.global_batch_size": (1, 1_000_000_000),
    "train.gradient_accumulation_steps": (1, 1_000_000),
    "train.lr": (_TINY, 1e3),
    "train.min_lr": (0.0, 1e3),
    "train.weight_decay": (0.0, 1e3),
    "train.beta1": _BELOW_ONE,
    "train.beta2": _BELOW_ONE,
    "train.warmup": _SHARE,
    "train.warmup_steps": (0, MANY),
    "train.grad_clip": (_TINY, 1e9),
    "train.num_workers": (0, 256),
    "train.seed": (0, 2**32 - 1),
    "train.checkpoint_every": (1, 1_000_000),
    "tokenizer.fc_weight": _WEIGHT,
    "tokenizer.profile_weight": _WEIGHT,
    "tokenizer.spectral_weight": _WEIGHT,
    "tokenizer.domain_weight": _WEIGHT,
    "tokenizer.clip_weight": _WEIGHT,
    "tokenizer.clip_dim": (1, 65_536),
    "align.text_only_weight": _WEIGHT,
    "align.fmri_only_weight": _WEIGHT,
    "align.fmri2text_weight": _WEIGHT,
    "align.text2fmri_weight": _WEIGHT,
    "align.mask_ratio": (_TINY, 1.0),
    "align.max_text_length": (1, 1_000_000),
    "data.cache_gb": (_TINY, 1e6),
    "instruct.fewshot_samples": (0, MANY),
}


def check_bounds(config: Any, bounds: dict[str, tuple[float, float]]) -> None:
    """Raise :class:`InputError` if a number lies outside its range, or is none at all.

    Parameters
    ----------
    config : dataclass
    bounds : dict
        ``section.name`` -> smallest and largest value; None is always allowed.
    """
    for key, (low, high) in bounds.items():
        value = config
        for name in key.split("."):
            value = getattr(value, name)
        if value is None or (math.isfinite(value) and low <= value <= high):
            continue
        above = "above 0" if low == _TINY else f"{low:g} or more"
        raise InputError(f"{key} is {value:g}: expected a number {above}, at most {high:g}")
