"""LoRA adapters (peft): put in, stacked, merged into the weights, taken out again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from fmrilm.config import LMConfig
from fmrilm.errors import InputError

if TYPE_CHECKING:
    from fmrilm.models.fmrilm import FMRILM

FIRST, SECOND = "default", "instruction_lora"


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


def add_lora(lm: Any, config: LMConfig) -> Any:
    """Return the language model with a LoRA adapter (peft); only the adapter is trainable."""
    from peft import get_peft_model

    return get_peft_model(lm, lora_config(config))


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


def load_adapters(lm: Any, folder: Path) -> Any:
    """Return the language model with the adapters that a folder holds, all switched on."""
    from peft import PeftModel

    lm = PeftModel.from_pretrained(lm, folder, is_trainable=True)
    if (folder / SECOND).is_dir():
        lm.load_adapter(folder / SECOND, SECOND, is_trainable=True)
    use_adapters(lm)
    return lm


def merge_lora(model: FMRILM) -> FMRILM:
    """Add the adapters to the weights for good and return the model, which then has none."""
    if not has_adapter(model.lm):
        raise InputError("the model has no adapter to merge")
    model.lm = model.lm.merge_and_unload()
    own = dataclasses.replace(
        model.config.lm, peft_tune=False, freeze_llm=False, freeze_pretrained_lora=False
    )
    model.config = dataclasses.replace(model.config, lm=own)
    return model


def adapt(model: FMRILM, config: LMConfig) -> None:
    """Make a trained model what the next stage asks for: adapters, head, what is trained.

    Where the language model is and how big it is stays as it was.

    Parameters
    ----------
    model : FMRILM
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
    keep = [
        "base_model",
        "tiny_width",
        "tiny_depth",
        "tiny_vocab",
        "summary_tokens",
        "summary_components",
        "use_fmri_lm_head",
        "add_fmri_delimiter",
    ]
    kept = {name: getattr(old, name) for name in keep}
    if has_adapter(model.lm):
        kept["peft_tune"] = True
    new = dataclasses.replace(config, use_cls_head=model.cls_head is not None, **kept)
    model.config = dataclasses.replace(model.config, lm=new)
    model.prepare_activations()
    model.dropout.p = new.dropout
    if model.summary is not None:
        model.summary.dropout.p = new.summary_dropout
    model.tokenizer.requires_grad_(new.tune_tokenizer)
