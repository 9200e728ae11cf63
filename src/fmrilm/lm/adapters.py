"""LoRA adapters (peft): put in, stacked, merged into the weights, taken out again."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from fmrilm.config.schema import LMConfig
from fmrilm.errors import InputError
from fmrilm.lm.interface import ScanReader
from fmrilm.weights import check_names, read_weights

Reader = TypeVar("Reader", bound=ScanReader)
FIRST, SECOND = "default", "instruction_lora"
TINY = ("tiny_width", "tiny_depth", "tiny_vocab")
# Options that a language model and its bridge were built with: later stages go on with these.
ARCHITECTURE = (
    "base_model",
    *TINY,
    "fmri_input",
    "summary_tokens",
    "summary_components",
    "summary",
    "projector",
    "prompt_layout",
    "use_fmri_lm_head",
    "add_fmri_delimiter",
)


def has_adapter(lm: Any) -> bool:
    """Return whether a language model has LoRA in it."""
    return hasattr(lm, "peft_config")


def lora_config(config: LMConfig) -> Any:
    """Return peft's configuration of an adapter."""
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules,
        task_type="CAUSAL_LM",
    )


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """Silence what peft says of its own calls and settles itself; no call of ours changes it."""
    with warnings.catch_warnings():
        # peft reads an old name of transformers.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.* is deprecated")
        # GPT-2 keeps its weights transposed, which peft finds out layer by layer.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
        yield


@_quiet_peft()
def add_lora(lm: Any, config: LMConfig) -> Any:
    """Return the language model with a LoRA adapter (peft); only the adapter is trainable."""
    from peft import get_peft_model

    return get_peft_model(lm, lora_config(config))


@_quiet_peft()
def stack_lora(lm: Any, config: LMConfig) -> None:
    """Put a second adapter on the first, which goes on working but is no longer trained.

    Until the second one has taken a step the output is that of the first alone.

    Raises
    ------
    InputError
        If there is no first adapter, or a second one already.
    """
    if not has_adapter(lm):
        raise InputError(
            "freeze_pretrained_lora needs a run trained with LoRA: set model.lm.peft_tune=true in "
            "the stage before, or leave freeze_pretrained_lora out"
        )
    if SECOND not in lm.peft_config:
        lm.add_adapter(SECOND, lora_config(config))
    use_adapters(lm)


def use_adapters(lm: Any) -> None:
    """Switch all adapters on; with two of them only the second is trainable."""
    lm.base_model.set_adapter(list(lm.peft_config))
    if SECOND in lm.peft_config:
        for name, parameter in lm.named_parameters():
            if "lora_" in name:
                parameter.requires_grad_(f".{SECOND}." in name)


def adapter_state(lm: Any) -> dict[str, Tensor]:
    """Return the weights of all adapters by name."""
    return {name: value for name, value in lm.named_parameters() if "lora_" in name}


@_quiet_peft()
def load_adapters(lm: Any, folder: Path) -> Any:
    """Return the language model with the adapters that a folder holds, all switched on.

    Raises
    ------
    InputError
        If a weight is missing, unknown or of another shape.
    """
    from peft import PeftModel

    there = _read_adapter(folder)
    try:
        lm = PeftModel.from_pretrained(lm, folder, is_trainable=True)
        _check_adapter(folder, lm, FIRST, there)
        second = folder / SECOND
        if second.is_dir():
            there = _read_adapter(second)
            lm.load_adapter(second, SECOND, is_trainable=True)
            _check_adapter(second, lm, SECOND, there)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the adapter in {folder} does not fit its model ({reason})") from None
    use_adapters(lm)
    return lm


def _read_adapter(folder: Path) -> dict[str, Tensor]:
    from peft.utils import SAFETENSORS_WEIGHTS_NAME

    path = folder / SAFETENSORS_WEIGHTS_NAME
    if not path.is_file():
        raise InputError(f"{path} not found: restore the adapter, or train the run again")
    return read_weights(path)


def _check_adapter(folder: Path, lm: Any, name: str, there: dict[str, Tensor]) -> None:
    """Raise :class:`InputError` unless an adapter got all its weights from its file.

    peft starts adapters at random where the file has no weights for them, and says so in a warning.
    """
    from peft import get_peft_model_state_dict

    check_names(folder, get_peft_model_state_dict(lm, adapter_name=name), there)


def merge_lora(model: Reader) -> Reader:
    """Add the adapters to the weights for good and return the model, which then has none."""
    if not has_adapter(model.lm):
        raise InputError("the model has no adapter to merge")
    model.lm = model.lm.merge_and_unload()
    own = dataclasses.replace(
        model.config.lm, peft_tune=False, freeze_llm=False, freeze_pretrained_lora=False
    )
    model.config.lm = own
    return model


def adapt(model: ScanReader, config: LMConfig) -> None:
    """Make a trained model what the next stage asks for: adapters, head, what is trained.

    Where the language model is and how big it is stays as it was.

    Parameters
    ----------
    model : ScanReader
        Of the stage before.
    config : LMConfig
        Of the stage to come.
    """
    old = model.config.lm
    if config.fmri_input != old.fmri_input:
        raise InputError(
            f"model.lm.fmri_input is {config.fmri_input!r}, the run to start from was trained with "
            f"{old.fmri_input!r}: use the same"
        )
    if config.freeze_llm:
        model.lm.requires_grad_(False)
    if config.freeze_pretrained_lora:
        stack_lora(model.lm, config)
    elif config.peft_tune and not has_adapter(model.lm):
        model.lm = add_lora(model.lm, config)
    if config.use_cls_head and (
        model.cls_head is None or model.cls_head.out_features != config.num_classes
    ):
        model.cls_head = nn.Linear(model.roi_embed.shape[1], config.num_classes)
    kept = {name: getattr(old, name) for name in ARCHITECTURE}
    if has_adapter(model.lm):
        kept["peft_tune"] = True
    new = dataclasses.replace(config, use_cls_head=model.cls_head is not None, **kept)
    model.config.lm = new
    model.prepare_activations()
    model.dropout.p = new.dropout
    if model.summary is not None:
        model.summary.dropout.p = new.summary_dropout
    model.tokenizer.requires_grad_(new.tune_tokenizer)
