"""DeepSpeed's JSON: what it says about optimizer and schedule becomes options of ours.

There is one training loop and one optimizer (AdamW) for all launches, so the blocks ``optimizer``
and ``scheduler`` of a file are read into ``train.*`` and not given to DeepSpeed, which would make a
second optimizer of its own. A value ``"auto"`` is what ``train.*`` says anyway.

bf16 is autocast over float32 weights, as without DeepSpeed: its own bf16 makes the weights bf16
too, and then refuses what is computed in float32 between them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fmrilm.config.schema import TrainConfig
from fmrilm.errors import InputError
from fmrilm.readers import read_json

_OPTIMIZERS = ("adam", "adamw")
_SCHEDULES = {"WarmupLR": "constant", "WarmupDecayLR": "linear", "WarmupCosineLR": "cosine"}
_PRECISIONS = ("bf16", "fp16", "torch_autocast")
_BLOCKS = ("optimizer", "scheduler", *_PRECISIONS)


def read_file(path: Path) -> dict[str, Any]:
    """Return the content of a DeepSpeed file.

    Raises
    ------
    InputError
        If it is no JSON object.
    """
    return read_json(path, "correct it")


def engine_settings(path: Path, precision: str = "no") -> dict[str, Any]:
    """Return what DeepSpeed itself is given: of a file all but optimizer, schedule and precision.

    Parameters
    ----------
    path : path
        Of the file.
    precision : str
        ``no`` or ``bf16``.

    Raises
    ------
    InputError
        If the precision is another one, or the file rules it out.
    """
    content = read_file(path)
    if precision == "fp16":
        raise InputError(f"train.mixed_precision is 'fp16', with {path} there are 'no' and 'bf16'")
    if precision == "bf16" and _says(content, "bf16") is False:
        raise InputError(
            f'{path}: bf16 is not enabled, train.mixed_precision is bf16: write "auto" there'
        )
    return {
        # torch's AdamW, which DeepSpeed has not tested with ZeRO and else refuses
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        **{key: value for key, value in content.items() if key not in _BLOCKS},
        # said, or accelerate turns them on
        "bf16": {"enabled": False},
        "fp16": {"enabled": False},
        "torch_autocast": {"enabled": precision == "bf16", "dtype": "bfloat16"},
    }


def _says(content: Mapping[str, Any], name: str) -> bool | None:
    """Return whether a file turns a precision on or off; None if it leaves that open."""
    block = content.get(name)
    enabled = block.get("enabled", False) if isinstance(block, Mapping) else None
    return None if enabled == "auto" else enabled


def with_deepspeed(train: TrainConfig, pairs: Sequence[str] = ()) -> TrainConfig:
    """Return the options of training with what a DeepSpeed file says about them.

    That is optimizer, schedule and precision.

    Parameters
    ----------
    train : TrainConfig
        With ``deepspeed``, or it is returned as it is.
    pairs : sequence of str
        ``key=value`` pairs given on the command line; one that says otherwise is refused.

    Raises
    ------
    InputError
        If the file asks for another optimizer, schedule or precision than there are, or contradicts
        ``pairs``.
    """
    if train.deepspeed is None or not Path(train.deepspeed).is_file():
        return train  # a missing file is named when training starts
    path = Path(train.deepspeed)
    content = read_file(path)
    found = dict([*_optimizer(content.get("optimizer"), path)])
    found |= _scheduler(content.get("scheduler"), path)
    found |= _precision(content, path)
    given = {pair.partition("=")[0].removeprefix("train.") for pair in pairs}
    for name, value in found.items():
        now = getattr(train, name)
        if name in given and now != value:
            raise InputError(
                f"train.{name} is {now!r}, {path} says {value!r}: give one of them, or write "
                '"auto" into the file'
            )
    return dataclasses.replace(train, **found)


def _precision(content: Mapping[str, Any], path: Path) -> dict[str, str]:
    if _says(content, "fp16"):
        raise InputError(f"{path}: fp16 is enabled, there is bf16 only")
    autocast = content.get("torch_autocast") or {}
    if autocast.get("enabled") and autocast.get("dtype", "bfloat16") != "bfloat16":
        raise InputError(f"{path}: torch_autocast is {autocast['dtype']}, there is bfloat16 only")
    on = _says(content, "bf16") or autocast.get("enabled")
    return {"mixed_precision": "bf16"} if on else {}


def _optimizer(block: Mapping[str, Any] | None, path: Path) -> Iterator[tuple[str, Any]]:
    if block is None:
        return
    kind, params = str(block.get("type", "AdamW")), dict(block.get("params") or {})
    if kind.lower() not in _OPTIMIZERS:
        raise InputError(f"{path}: optimizer {kind!r}, there is AdamW only")
    if params.get("adam_w_mode") is False:
        raise InputError(f"{path}: adam_w_mode is false, weight decay is AdamW's: leave it out")
    if params.get("eps", "auto") not in ("auto", 1e-8):
        raise InputError(f"{path}: eps is {params['eps']}, there is 1e-8: leave it out")
    for theirs, ours in (("lr", "lr"), ("weight_decay", "weight_decay")):
        if params.get(theirs, "auto") != "auto":
            yield ours, float(params[theirs])
    if params.get("betas", "auto") != "auto":
        yield "beta1", float(params["betas"][0])
        yield "beta2", float(params["betas"][1])


def _scheduler(block: Mapping[str, Any] | None, path: Path) -> dict[str, Any]:
    if block is None:
        return {}
    kind, params = str(block.get("type", "")), dict(block.get("params") or {})
    if kind not in _SCHEDULES:
        raise InputError(f"{path}: scheduler {kind!r}, there are: {', '.join(_SCHEDULES)}")
    given = {name: value for name, value in params.items() if value != "auto"}
    found: dict[str, Any] = {"schedule": _SCHEDULES[kind]}
    if given.pop("warmup_num_steps", None) is not None:
        found["warmup_steps"] = int(params["warmup_num_steps"])
    if given.pop("warmup_max_lr", None) is not None:
        found["lr"] = float(params["warmup_max_lr"])
    if kind == "WarmupDecayLR":
        found["min_lr"] = 0.0
    # the warm-up starts at 1/n of the peak; the end is that of training
    for name in ("warmup_min_lr", "warmup_type", "total_num_steps", "last_batch_iteration"):
        given.pop(name, None)
    if given:
        raise InputError(f"{path}: scheduler has {sorted(given)[0]!r}, which is not read")
    return found
