"""The flags of the original's documented commands, as keys of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fmrilm.config import Config
from fmrilm.errors import InputError
from fmrilm.registry import suggest

# Flags of the original's documented commands -> keys of Config.
FLAGS = {
    "quantizer": "model.vq_model.quantizer",
    "lm_name": "model.lm.base_model",
    "lm": "model.lm.base_model",
    "dataset_dir": "data.dataset_dir",
    "desc_type": "data.desc_type",
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "fmri_batch_size": "train.batch_size",
    "gradient_accumulation_steps": "train.gradient_accumulation_steps",
    "learning_rate": "train.lr",
    "weight_decay": "train.weight_decay",
    "seed": "train.seed",
    "mixed_precision": "train.mixed_precision",
    "deepspeed": "train.deepspeed",
    "parallel": "train.parallel",
    "save_ckpt": "train.save_ckpt",
    "clip_loss_type": "tokenizer.clip_loss_type",
    "pooling": "tokenizer.pooling",
    "text_pooling": "tokenizer.text_pooling",
    "domain_weight": "tokenizer.domain_weight",
    "text_only_weight": "align.text_only_weight",
    "fmri_only_weight": "align.fmri_only_weight",
    "fmri2text_weight": "align.fmri2text_weight",
    "text2fmri_weight": "align.text2fmri_weight",
    "text_corpus": "align.text_corpus",
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
# Datasets may carry phenotype text by a bare --add_desc: these columns never reveal a label.
DEFAULT_DESC_COLUMNS = ["age", "sex"]


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
    words = list(arguments)
    batch = None
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
        elif name == "global_fmri_batch_size":
            batch = int(value)
        elif name in FLAGS:
            key = FLAGS[name]
            if key == "instruct.add_desc" and not value:
                value = ",".join(DEFAULT_DESC_COLUMNS)
            is_list = isinstance(_default(key), list)
            pairs.append(f"{key}=[{value}]" if is_list else f"{key}={value or 'true'}")
        else:
            known = [*FLAGS, *PATH_FLAGS, "global_fmri_batch_size"]
            raise InputError(f"unknown flag --{name}{suggest(name, known)}")
    if batch is not None:  # the global batch is scans per update, over all accumulation steps
        steps = next((int(p.split("=")[1]) for p in pairs if p.startswith("train.gradient_acc")), 1)
        if batch % steps:
            raise InputError(
                f"global_fmri_batch_size {batch} is not a multiple of "
                f"gradient_accumulation_steps {steps}"
            )
        pairs.append(f"train.batch_size={batch // steps}")
    return paths, pairs


def _default(key: str) -> Any:
    value: Any = Config()
    for part in key.split("."):
        value = getattr(value, part)
    return value
