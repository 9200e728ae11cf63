"""The flags of the original's documented commands, as keys of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmrilm.config.schema import Config
from fmrilm.errors import InputError
from fmrilm.registry import suggest

# Flags of the original's documented commands -> keys of Config.
FLAGS = {
    "quantizer": "model.vq_model.quantizer",
    "lm_name": "model.lm.base_model",
    "lm": "model.lm.base_model",
    "dataset_dir": "data.dataset_dir",
    "datasets": "data.dataset_dir",
    "desc_type": "data.desc_type",
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "fmri_batch_size": "train.batch_size",
    "global_fmri_batch_size": "train.global_batch_size",
    "gradient_accumulation_steps": "train.gradient_accumulation_steps",
    "learning_rate": "train.lr",
    "min_lr": "train.min_lr",
    "grad_clip": "train.grad_clip",
    "wandb_runname": "train.tracker_run",
    "weight_decay": "train.weight_decay",
    "seed": "train.seed",
    "mixed_precision": "train.mixed_precision",
    "deepspeed": "train.deepspeed",
    "parallel": "train.parallel",
    "save_ckpt": "train.save_ckpt",
    "clip_loss_type": "tokenizer.clip_loss_type",
    "contr_loss": "tokenizer.clip_loss_type",
    "contr_weight": "tokenizer.clip_weight",
    "fmri_pool_method": "tokenizer.pooling",
    "text_pool_method": "tokenizer.text_pooling",
    "domain_confuse_weight": "tokenizer.domain_weight",
    "pooling": "tokenizer.pooling",
    "text_pooling": "tokenizer.text_pooling",
    "domain_weight": "tokenizer.domain_weight",
    "text_only_weight": "align.text_only_weight",
    "fmri_only_weight": "align.fmri_only_weight",
    "fmri2text_weight": "align.fmri2text_weight",
    "text2fmri_weight": "align.text2fmri_weight",
    "text_corpus": "align.text_corpus",
    "freeze_llm": "model.lm.freeze_llm",
    "freeze_pretrained_lora": "model.lm.freeze_pretrained_lora",
    "use_cls_head": "model.lm.use_cls_head",
    "add_src_info": "instruct.add_src_info",
    "add_desc": "instruct.add_desc",
    "use_allowed_tokens": "instruct.use_allowed_tokens",
    "use_random_prompt": "instruct.use_random_prompt",
    "fewshot_samples": "instruct.fewshot_samples",
}
# Flags that name a file or folder rather than a key: the caller takes them out first.
PATH_FLAGS = {
    "cfg_path": "config",
    "ckpt_dir": "output",
    "tokenizer_path": "init",
    "pretrained_ckpt": "init",
}
ZERO = "configs/deepspeed_zero{}.json"  # of a bare --deepspeed, and of --zero_stage


def read_flags(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the path flags and the ``key=value`` pairs that ``arguments`` stand for.

    Parameters
    ----------
    arguments : sequence of str
        What stood on the command line: ``key=value``, ``--flag value`` or a bare ``--flag``.

    Raises
    ------
    InputError
        If a flag is not known, or a word is neither flag nor ``key=value``.
    """
    paths: dict[str, str] = {}
    pairs: list[str] = []
    stage = ""  # of DeepSpeed's ZeRO
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            if "=" not in word:
                raise InputError(f"expected key=value or --flag value, got {word!r}")
            pairs.append(word)
            continue
        name, _, value = word[2:].partition("=")
        if not value and words and not words[0].startswith("--") and "=" not in words[0]:
            value = words.pop(0)
        name = name.replace("-", "_")
        if name in PATH_FLAGS:
            paths[PATH_FLAGS[name]] = value
        elif name == "zero_stage":
            if value not in ("2", "3"):
                raise InputError(f"--zero_stage {value}: there are 2 and 3")
            stage = value
        elif name == "wandb_log":
            if value.lower() not in ("false", "0"):
                pairs.append("train.tracker=wandb")
        elif name in FLAGS:
            pairs += _pairs(FLAGS[name], value)
        else:
            known = [*FLAGS, *PATH_FLAGS, "zero_stage", "wandb_log"]
            raise InputError(f"unknown flag --{name}{suggest(name, known)}")
    if stage and not any(pair.startswith("train.deepspeed=") for pair in pairs):
        pairs.append(f"train.deepspeed={ZERO.format(stage)}")
    return paths, [
        pair.replace("=" + ZERO.format("?"), "=" + ZERO.format(stage or 2)) for pair in pairs
    ]


def _pairs(key: str, value: str) -> list[str]:
    """Return the ``key=value`` pairs that a flag with its value stands for."""
    if key == "instruct.add_desc" and not value:
        value = "auto"
    if key == "train.deepspeed" and not value:
        value = ZERO.format("?")
    if isinstance(_default(key), list):
        return [f"{key}=[{value}]"]
    return [f"{key}={value or 'true'}"]


def run_folder(path: Path) -> Path:
    """Return the run folder that ``path`` is, or that a file in it (``.../ckpt.pt``) stands for.

    Raises
    ------
    InputError
        If it is a checkpoint file of the original, which has to be imported first.
    """
    if path.suffix != ".pt":
        return path
    merged = path.with_suffix("")
    folder = merged if (merged / "model").is_dir() else path.parent
    if path.is_file() and not (folder / "model").is_dir():
        raise InputError(
            f"{path} is a checkpoint file of the original: read it by `fmrilm import {path} -o "
            "FOLDER`, then give FOLDER"
        )
    return folder


def _default(key: str) -> Any:
    value: Any = Config()
    for part in key.split("."):
        value = getattr(value, part)
    return value
