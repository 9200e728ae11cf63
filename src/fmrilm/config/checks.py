"""Values of the configuration that contradict each other, or are none of those there are."""

from __future__ import annotations

import math
from typing import Any

from fmrilm.config.bounds import BOUNDS, MOST_CODES, check_bounds
from fmrilm.errors import InputError
from fmrilm.readers import check_name
from fmrilm.registry import suggest


def check_config(config: Any) -> None:
    """Raise :class:`InputError` if two values of a ``Config`` contradict each other."""
    check_bounds(config, BOUNDS)
    vq, lm = config.model.vq_model, config.model.lm
    if len(vq.fsq_levels) > 16 or max(vq.fsq_levels, default=0) > 1024:
        raise InputError(f"fsq_levels {vq.fsq_levels}: give at most 16 numbers of at most 1024")
    codes = math.prod(vq.fsq_levels) ** vq.num_quantizers
    if vq.quantizer == "rfsq" and codes > MOST_CODES:
        raise InputError(
            f"rfsq with fsq_levels {vq.fsq_levels} and num_quantizers {vq.num_quantizers} has "
            f"{codes:,} codes, at most {MOST_CODES:,} can be told apart by a language model: give "
            "fewer levels, as model.vq_model.fsq_levels=[4,4,3]"
        )
    if config.instruct.fewshot_samples == 0:
        raise InputError(
            "instruct.fewshot_samples=0 trains nothing: for zero-shot answers ask the run itself, "
            "`fmrilm evaluate RUN --datasets FOLDER`"
        )
    for name in (*config.tasks, *config.datasets):
        check_name(name, "the name")
    for name, task in config.tasks.items():
        if not all(math.isfinite(value) for value in task.values):
            raise InputError(f"tasks.{name}.values holds what is no number: {task.values}")
    if vq.patch_size < 1 or vq.num_timestamp % vq.patch_size:
        raise InputError(
            f"patch_size {vq.patch_size} does not divide num_timestamp {vq.num_timestamp}"
        )
    if vq.num_latent_tokens is not None and vq.num_latent_tokens < 1:
        raise InputError(f"num_latent_tokens is {vq.num_latent_tokens}: use 32, 64 or 128")
    if min(vq.fsq_levels, default=0) < 2:
        raise InputError(f"fsq_levels {vq.fsq_levels}: give two or more levels for each number")
    width, _, heads = vq.size
    if width % heads:
        raise InputError(f"n_embd {width} is not a multiple of n_head {heads}")
    if lm.num_fmri_tokens not in (None, vq.num_tokens, vq.num_rois):
        raise InputError(
            f"model.lm.num_fmri_tokens is {lm.num_fmri_tokens}, but {vq.num_rois} regions x "
            f"{vq.num_steps} time patches make {vq.num_tokens}: delete the key or correct it"
        )
    if lm.num_rois not in (None, vq.num_rois):
        raise InputError(
            f"model.lm.num_rois is {lm.num_rois}, model.vq_model.num_rois is {vq.num_rois}"
        )
    if vq.quantizer.startswith("vq") and lm.fmri_vocab_size not in (None, vq.codebook_size):
        raise InputError(
            f"model.lm.fmri_vocab_size is {lm.fmri_vocab_size}, model.vq_model.codebook_size is "
            f"{vq.codebook_size}: delete the key or correct it"
        )
    if config.train.min_lr is not None and config.train.min_lr > config.train.lr:
        raise InputError(
            f"train.min_lr {config.train.min_lr:g}, the learning rate at the end, is above the "
            f"peak train.lr {config.train.lr:g}: lower it, or leave it out"
        )
    if lm.activations == "half" and (config.train.parallel == "fsdp" or config.train.deepspeed):
        raise InputError(
            "model.lm.activations=half cannot tell weights from activations where processes share "
            "them (train.parallel=fsdp, train.deepspeed): use recompute"
        )
    if vq.cls_token and (vq.attention != "full" or vq.num_latent_tokens is not None):
        raise InputError("model.vq_model.cls_token needs attention: full and no num_latent_tokens")
    choices = {
        "model.lm.fmri_input": (lm.fmri_input, ("continuous", "quantized")),
        "model.lm.activations": (lm.activations, ("keep", "half", "recompute")),
        "model.vq_model.recompute": (vq.recompute, ("none", "cheap", "all")),
        "data.length": (config.data.length, ("clip", "random_clip", "pad")),
        "tokenizer.rec_loss": (config.tokenizer.rec_loss, ("mse", "smooth_l1")),
        "tokenizer.clip_loss_type": (
            config.tokenizer.clip_loss_type,
            ("clip", "siglip", "soft_clip", "soft_siglip"),
        ),
        "tokenizer.pooling": (config.tokenizer.pooling, ("mean", "cls", "map", "regions")),
        "tokenizer.text_tower": (config.tokenizer.text_tower, ("lm", "ngrams")),
        "tokenizer.text_pooling": (config.tokenizer.text_pooling, ("mean", "last")),
        "train.schedule": (config.train.schedule, ("cosine", "linear", "constant")),
        "train.parallel": (config.train.parallel, ("ddp", "fsdp")),
        "model.vq_model.attention": (vq.attention, ("block_causal", "full")),
        "model.vq_model.code_head": (vq.code_head, ("linear", "tanh")),
        "model.vq_model.code_distance": (vq.code_distance, ("cosine", "euclidean")),
        "model.vq_model.output_head": (vq.output_head, ("linear", "tanh", "region")),
        "model.lm.summary": (lm.summary, ("signals", "components")),
        "model.lm.projector": (lm.projector, ("mlp", "linear")),
        "model.lm.prompt_layout": (lm.prompt_layout, ("template", "interleaved", "prefix")),
        "model.vq_model.gate_attn": (vq.gate_attn, ("none", "headwise", "elementwise")),
        "model.vq_model.roi_embed": (vq.roi_embed, ("learned", "coords")),
        "model.vq_model.attn_mode": (vq.attn_mode, ("sdpa", "flash_attn", "normal")),
    }
    for name in config.instruct.formats or [""]:
        choices[f"instruct.formats: {name!r}"] = (name, ("single", "several", "open"))
    for name, task in config.tasks.items():
        choices[f"tasks.{name}.kind"] = (task.kind, ("classes", "ordered", "number"))
    if config.train.mixed_precision is not None:
        known = ("no", "bf16", "fp16", "auto")
        choices["train.mixed_precision"] = (config.train.mixed_precision, known)
    if config.train.tracker is not None:
        choices["train.tracker"] = (config.train.tracker, ("tensorboard", "wandb", "trackio"))
    for key, (value, allowed) in choices.items():
        if value not in allowed:
            raise InputError(
                f"{key} is {value!r}{suggest(value, list(allowed))}; one of: {', '.join(allowed)}"
            )
