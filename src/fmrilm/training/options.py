"""What the options given to a stage come to: they act, or the parent has settled them, or nothing.

A stage goes on with the networks of its parent run; what these were built with is inherited. An
option that says something else is refused. One that is of no use to the stage is named.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fmrilm.config.checks import check_config
from fmrilm.config.schema import (
    Config,
    LMConfig,
    ModelConfig,
    TokenizerConfig,
    load_config,
    notes_on,
    read_model_config,
)
from fmrilm.errors import InputError
from fmrilm.lm.adapters import ARCHITECTURE, TINY
from fmrilm.lm.language_models import holds_tiny
from fmrilm.readers import read_json
from fmrilm.training.deepspeed import with_deepspeed
from fmrilm.training.distributed import choose_precision

TOKENIZER, ALIGN, INSTRUCT = STAGES = ("tokenizer", "align", "instruct")
LORA = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")
GENERATION = ("temperature", "top_p", "top_k")
# What may be other in a run that is resumed: no weight depends on it.
RESUMABLE = ("dropout", "summary_dropout", "token_dropout", "activations", *GENERATION)
# What a language model is asked for in stage 1, which only reads descriptions with it.
_STAGE_1_LM = ("base_model", *TINY, "num_fmri_tokens", "num_rois", "fmri_vocab_size")


def settle(
    stage: str,
    files: Sequence[str | Path] = (),
    pairs: Sequence[str] = (),
    parent: Path | None = None,
    resumed: Path | None = None,
) -> tuple[Config, list[str]]:
    """Return the configuration a stage runs with, and a sentence for every option without use.

    Parameters
    ----------
    stage : str
    files : sequence of path
        YAML files, often shared by all stages.
    pairs : sequence of str
        ``key=value`` pairs, given to this stage.
    parent : Path, optional
        Run folder that the stage goes on from.
    resumed : Path, optional
        Run folder that goes on itself: its configuration holds where nothing else is given.

    Raises
    ------
    InputError
        If an option contradicts what the parent was built with, or how processes were launched.
    """
    if resumed is not None:
        base = load_config([resumed / "config.yaml"])
        where = f"the run to resume ({resumed})"
    else:
        base = Config() if parent is None else inherited(stage, parent)
        where = f"the run to start from ({parent})"
    if resumed is None:
        files, pairs = list(files), list(pairs)
        config = load_config(files, pairs, base)
        config = dataclasses.replace(config, train=with_deepspeed(config.train, pairs))
    else:
        config = load_config(files, pairs, base)
    fixed: list[str] = []
    if resumed is not None:
        fixed = [
            key
            for key in keys_of(config)
            if key.startswith("model.") and not key.endswith(tuple(f".{n}" for n in RESUMABLE))
        ]
    elif parent is not None:
        fixed = settled_keys(stage, parent, base, config)
    check_settled(config, base, fixed, where)
    config = _launched(config, pairs)
    check_config(config)
    return config, [*notes_on(files), *_without_use(stage, config, pairs, parent)]


def keys_of(config: Any, prefix: str = "") -> Iterator[str]:
    """Yield the keys of all options, ``section.name``; those of data sets and tasks excepted."""
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from keys_of(value, f"{key}.")
        elif key not in ("datasets", "tasks"):
            yield key


def value_of(config: Any, key: str) -> Any:
    """Return the value of a key such as ``train.lr``."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


# What the parent has settled -----------------------------------------------------------------


def inherited(stage: str, parent: Path) -> Config:
    """Return the defaults of a stage that goes on from a run: as that one was built."""
    path = parent / "model" / "config.json"
    parts = ("vq_model", "lm") if "lm" in read_json(path) else ("vq_model",)
    saved = dataclasses.asdict(read_model_config(path, parts))
    saved = {part: saved[part] for part in parts}
    lm = LMConfig()
    if "lm" not in saved:
        if (parent / "config.yaml").is_file():
            of_parent = load_config([parent / "config.yaml"]).model.lm
            lm = dataclasses.replace(
                lm, **{n: getattr(of_parent, n) for n in ("base_model", *TINY)}
            )
    elif stage == INSTRUCT:
        names = [*ARCHITECTURE, *GENERATION]
        if saved["lm"]["peft_tune"]:
            names += ["peft_tune", *LORA]
        if saved["lm"]["use_cls_head"]:
            names += ["use_cls_head", "num_classes"]
        lm = dataclasses.replace(lm, **{name: saved["lm"][name] for name in names})
    return Config(model=ModelConfig(TokenizerConfig(**saved["vq_model"]), lm))


def settled_keys(stage: str, parent: Path, base: Config, config: Config) -> list[str]:
    """Return the keys that the stage cannot change."""
    fixed = [key for key in keys_of(config) if key.startswith("model.vq_model.")]
    if stage == TOKENIZER and base.model.vq_model.roi_embed == "coords":
        fixed.remove("model.vq_model.num_rois")  # goes on with another atlas
    names: list[str] = []
    if stage == INSTRUCT and is_language_run(parent):
        lm = base.model.lm
        names += ARCHITECTURE
        if lm.peft_tune:
            names += ["peft_tune", *([] if config.model.lm.freeze_pretrained_lora else LORA)]
        if lm.use_cls_head:
            names.append("use_cls_head")
    elif config.model.lm.base_model == "tiny" and holds_tiny(parent / "model" / "lm"):
        names += TINY if stage != TOKENIZER else []
    return [*fixed, *(f"model.lm.{name}" for name in names)]


def check_settled(config: Config, base: Config, keys: Sequence[str], where: str) -> None:
    """Raise :class:`InputError` if one of the keys has another value than in ``base``."""
    for key in keys:
        now, then = value_of(config, key), value_of(base, key)
        if now != then:
            raise InputError(
                f"{key} is {now!r}, but {where} was trained with {then!r}: leave it out, or give "
                "the same"
            )


# How processes were launched -----------------------------------------------------------------


def _launched(config: Config, pairs: Sequence[str]) -> Config:
    """Return a configuration with the precision and batch size that the launch comes to."""
    train = config.train
    changed: dict[str, Any] = {"mixed_precision": choose_precision(train.mixed_precision)}
    given = {pair.partition("=")[0] for pair in pairs}
    if train.global_batch_size is not None:
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        size = per_process(train.global_batch_size, train.gradient_accumulation_steps, processes)
        if "train.batch_size" in given and size != train.batch_size:
            if "train.global_batch_size" in given:
                raise InputError(
                    f"train.global_batch_size {train.global_batch_size} makes {size} scans per "
                    f"step and process, train.batch_size is {train.batch_size}: give one of them"
                )
            changed["global_batch_size"] = None  # of a file or of the run before
        else:
            changed["batch_size"] = size
    return dataclasses.replace(config, train=dataclasses.replace(train, **changed))


def per_process(global_batch_size: int, steps: int, processes: int) -> int:
    """Return the scans per step and process that make so many per update.

    Raises
    ------
    InputError
        If they cannot be shared out evenly.
    """
    size, rest = divmod(global_batch_size, steps * processes)
    if rest or size < 1:
        raise InputError(
            f"train.global_batch_size {global_batch_size} cannot be shared by {processes} "
            f"processes in {steps} steps (train.gradient_accumulation_steps): use a multiple of "
            f"{steps * processes}"
        )
    return size


# What is of no use ---------------------------------------------------------------------------


def _without_use(
    stage: str, config: Config, pairs: Sequence[str], parent: Path | None
) -> Iterator[str]:
    for key in dict.fromkeys(pair.partition("=")[0] for pair in pairs):
        reason = idle_reason(stage, config, key, parent is not None and is_language_run(parent))
        if reason:
            yield f"{key} is not used: {reason}"


def is_language_run(run: Path) -> bool:
    """Return whether a run folder holds a language model that reads scans (stage 2 or 3)."""
    return (run / "model" / "bridge.safetensors").is_file()


def idle_reason(stage: str, config: Config, key: str, goes_on: bool = False) -> str:
    """Return why an option does nothing in a stage; empty if it acts.

    Parameters
    ----------
    stage : str
    config : Config
        Of the stage.
    key : str
    goes_on : bool
        It starts from a run of stage 2 or 3.
    """
    section, _, name = key.rpartition(".")
    if section in STAGES and section != stage and key != "instruct.tasks":
        return f"it is of stage {section}, this is stage {stage}"
    if key == "instruct.use_allowed_tokens":
        return "answers are chosen in `fmrilm evaluate`, which has an option of this name"
    if key == "model.vq_model.attn_mode":
        return "all attention is torch's sdpa"
    if section == "model.lm" and stage == TOKENIZER:
        if name not in _STAGE_1_LM:
            return "stage tokenizer trains no language model"
        if config.tokenizer.clip_weight <= 0 and name in ("base_model", *TINY):
            return "without tokenizer.clip_weight no language model is read"
    if key == "data.desc_type" and (
        (stage == TOKENIZER and config.tokenizer.clip_weight <= 0)
        or (stage == INSTRUCT and goes_on)
    ):
        return "no description is read"
    for names, acts, why in _conditions(config):
        if key in names and not acts:
            return why
    return ""


def _conditions(config: Config) -> list[tuple[list[str], bool, str]]:
    """Return groups of options that act only where another one says so."""
    vq, lm, tok, train = config.model.vq_model, config.model.lm, config.tokenizer, config.train

    def of(section: str, *names: str) -> list[str]:
        return [f"{section}.{name}" for name in names]

    is_vq = vq.quantizer in ("vq", "vq_learned")
    has_lora = lm.peft_tune or lm.freeze_pretrained_lora
    text = ("clip_loss_type", "pooling", "text_tower", "text_pooling", "clip_dim")
    codebook = of("model.vq_model", "codebook_size", "code_dim", "beta")
    named = train.tracker in ("wandb", "trackio")
    return [
        (codebook, is_vq, f"quantizer {vq.quantizer} has no codebook"),
        (of("model.vq_model", "decay"), vq.quantizer == "vq", "only quantizer vq has it"),
        (of("model.vq_model", "fsq_levels"), not is_vq, f"quantizer {vq.quantizer} has no levels"),
        (of("model.vq_model", "num_quantizers"), vq.quantizer == "rfsq", "only rfsq has it"),
        (of("model.lm", *TINY), lm.base_model == "tiny", f"base_model is {lm.base_model}"),
        (of("model.lm", *LORA), has_lora, "model.lm.peft_tune is off"),
        (of("model.lm", "num_classes"), lm.use_cls_head, "model.lm.use_cls_head is off"),
        (
            of("model.lm", "summary_components", "summary_dropout", "token_dropout"),
            lm.summary_tokens > 0,
            "model.lm.summary_tokens is 0",
        ),
        (of("tokenizer", *text), tok.clip_weight > 0, "tokenizer.clip_weight is 0"),
        (of("tokenizer", "text_pooling"), tok.text_tower == "lm", "only text_tower lm has it"),
        (
            of("align", "mask_ratio"),
            vq.token_steps == 1 and config.align.fmri_only_weight > 0,
            "no codes are masked with several time patches, or without align.fmri_only_weight",
        ),
        (
            of("align", "text_corpus"),
            config.align.text_only_weight > 0,
            "align.text_only_weight is 0",
        ),
        (of("train", "tracker_run"), named, f"train.tracker is {train.tracker}"),
        (of("train", "min_lr"), train.schedule != "constant", "train.schedule is constant"),
        (of("train", "warmup"), train.warmup_steps is None, "train.warmup_steps is given"),
        (of("train", "checkpoint_every"), train.save_ckpt, "train.save_ckpt is off"),
    ]
