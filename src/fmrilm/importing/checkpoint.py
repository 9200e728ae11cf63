"""`fmrilm import`: a checkpoint of the original becomes a run folder."""

from __future__ import annotations

import dataclasses
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmrilm.errors import InputError
from fmrilm.hashing import code_version
from fmrilm.run_record import write_record

if TYPE_CHECKING:
    from fmrilm.importing.card import Card
    from fmrilm.importing.layouts import Layout, State

LAYOUTS = ("interleaved", "prefix")  # of prompts
# What stands beside the weights in a checkpoint.
WEIGHTS, SETTINGS = "model", ("conf", "model_args")
COUNTERS = re.compile(r"iter_num|epoch|log|best_\w+|\w+_results")
TRAINING = re.compile(r"(optimizer|scheduler|lr_scheduler|scaler|wrapper_model)\w*")


@dataclass(frozen=True)
class ImportOptions:
    """What to make of a checkpoint, and what its file may not show.

    Parameters
    ----------
    lm : str
        Folder or name of the language model that the checkpoint was trained from, for its text
        tokenizer and config.json; without it what the checkpoint names.
    merge : bool
        Add the LoRA adapters to the weights for good.
    prompt_layout : str
        Where the scan stands in a prompt: interleaved (in what the user says; taken if nothing is
        given) or prefix (before everything). The file does not show which is right.
    num_timestamp : int
        Time points of a scan, where the file does not show them.
    heads : int
        Attention heads of the encoder, where its size is none of the named ones.
    lora_alpha : int
        Scale of the adapters times their rank, where the file does not state it.
    """

    lm: str | None = None
    merge: bool = False
    prompt_layout: str | None = None
    num_timestamp: int | None = None
    heads: int | None = None
    lora_alpha: int | None = None

    def __post_init__(self) -> None:
        if self.prompt_layout not in (None, *LAYOUTS):
            raise InputError(
                f"unknown prompt layout {self.prompt_layout!r}: one of {', '.join(LAYOUTS)}"
            )


def import_checkpoint(
    file: Path, *, output: Path, options: ImportOptions | None = None, **changes: Any
) -> Path:
    """Turn a checkpoint of the original fMRI-LM into a run folder, and say what is not known.

    Nothing in the file is run: it is read as plain data, and what is not is refused by name. The
    folder goes where our own runs go: `evaluate`, `train --init`, `merge`, `explain`.

    Parameters
    ----------
    file : Path
        The .pt file: of stage 1 (VQ or MAE), stage 2 or instruct.
    output : Path
        The folder to write; it must not exist.
    options : ImportOptions, optional
        All options at once; on the command line each is a flag.
    **changes
        Single options by name: ``import_checkpoint(file, output=folder, merge=True)``.

    Examples
    --------
    fmrilm import fMRI-LM-B-Qwen3-0.6B-instruct.pt -o runs/released --lm Qwen/Qwen3-0.6B
    fmrilm import stage1-tokenizer.pt -o runs/released-tokenizer
    """
    from fmrilm.importing.layouts import detect
    from fmrilm.importing.restricted_pickle import read_checkpoint
    from fmrilm.importing.unused import explain_unused
    from fmrilm.lm.language_models import quiet_transformers

    if output.exists():
        raise InputError(f"{output} exists: give another folder, or remove it")
    options = dataclasses.replace(options or ImportOptions(), **changes)
    quiet_transformers()
    content = read_checkpoint(file)
    state, card = _open(content, file)
    layout = detect(state)
    card.layout = layout.name
    if layout.has_language_model:
        model = _import_model(state, layout, card, content, options)
    else:
        if options.merge:
            raise InputError(f"{file.name} is a tokenizer: it has no adapters to merge")
        model = _import_tokenizer(state, layout, card, content, options)
    card.not_used += explain_unused(state, layout)
    part = output.with_name(output.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model.save_pretrained(part / "model")
    _write_run(part, card, model)
    part.rename(output)
    _say(card, output)
    return output


def _open(content: dict[str, Any], file: Path) -> tuple[State, Card]:
    """Return the weights of a checkpoint, and a card that says what else is in it."""
    from torch import Tensor

    from fmrilm.importing.card import Card, hash_file
    from fmrilm.importing.layouts import State

    if WEIGHTS not in content and all(isinstance(one, Tensor) for one in content.values()):
        content[WEIGHTS] = dict(content)  # weights alone
        for name in list(content[WEIGHTS]):
            del content[name]
    if not isinstance(content.get(WEIGHTS), dict):
        raise InputError(f"{file.name} has no {WEIGHTS!r}: it is no checkpoint of the original")
    card = Card(file.name, hash_file(file), file.stat().st_size, "", "tokenizer")
    for name, value in content.items():
        if name == WEIGHTS or name in SETTINGS:
            continue
        if TRAINING.fullmatch(name):
            card.not_used.append(f"{name} (of training)")
        elif COUNTERS.fullmatch(name):
            card.stated[name] = value
        else:
            raise InputError(f"{file.name} has an unexpected entry {name!r}: nothing was imported")
    return State(content[WEIGHTS]), card


def _settings(content: dict[str, Any]) -> dict[str, Any]:
    return {name: content[name] for name in SETTINGS if name in content}


def _import_tokenizer(
    state: State,
    layout: Layout,
    card: Card,
    content: dict[str, Any],
    options: ImportOptions,
    codebook_size: int = 1,
) -> Any:
    from fmrilm.importing.layouts import Known, measure
    from fmrilm.importing.tokenizer import count_steps, import_tokenizer

    settings = _settings(content)
    sizes = measure(state, layout, settings, options.heads)
    steps = count_steps(state, layout, sizes, settings, options.num_timestamp)
    tokenizer = import_tokenizer(state, layout, sizes, steps.value, codebook_size)
    card.facts |= {item.name: getattr(sizes, item.name) for item in dataclasses.fields(sizes)}
    card.facts["time patches"] = steps
    card.facts["quantizer"] = Known(tokenizer.config.quantizer, "keys")
    card.not_known += [
        "the statistics that series were scaled with (one median and one interquartile range for "
        "all, never published): `data.norm: robust_global` estimates them on the training scans "
        "of each cohort, or takes a cohort's own normalization_params.npz",
    ]
    if not tokenizer.has_codes:
        card.not_known.append("codes: there is an encoder alone, without codebook or decoder")
    elif layout.name == "B":
        card.not_known.append(
            "the activation in front of the codes and behind the decoder: tanh, as in layout A"
        )
    if sizes.qk_norm.value:
        card.not_known.append("the epsilon of the norms of queries and keys: taken to be 1e-6")
    if steps.value > 1:
        card.not_known.append(
            "at several time patches the original's tokens are in the order of regions: mask and "
            "positions are those of each token's time patch"
        )
    return tokenizer


def _import_model(
    state: State, layout: Layout, card: Card, content: dict[str, Any], options: ImportOptions
) -> Any:
    from fmrilm.config.schema import LMConfig
    from fmrilm.importing import language
    from fmrilm.importing.layouts import Known, setting
    from fmrilm.lm.adapters import merge_lora

    args = content.get("model_args", {})
    source = options.lm or setting(args, "base_model")
    if not isinstance(source, str):
        raise InputError("the checkpoint names no language model: give --lm a folder or name")
    is_instruct = any(re.match("best_avg|test_results|validation_results", n) for n in content)
    card.stage = "instruct" if is_instruct else "align"
    weights = language.read_language_model(state)
    layout_of_prompts = options.prompt_layout or LAYOUTS[0]
    fields = language.model_fields(state, args, layout_of_prompts)
    fields |= language.lora_fields(weights, args, options.lora_alpha)
    config = LMConfig(**fields)
    lm, text_tokenizer, known_from = language.build_language_model(weights, source)
    lm = language.add_adapters(lm, weights, config)
    codes = state.shape(language.CODES)[0] if language.CODES in state else 1
    tokenizer = _import_tokenizer(state, layout, card, content, options, codes)
    model = language.join(state, tokenizer, lm, text_tokenizer, config)
    card.facts["language model"] = Known(setting(args, "base_model") or source, known_from)
    if config.peft_tune:
        scale = config.lora_alpha / config.lora_r
        what = (
            f"rank {config.lora_r}, scale {scale:g}, {', '.join(config.lora_target_modules or [])}"
        )
        card.facts["LoRA"] = Known(what, "shapes; the scale as stated or given")
    for name in ("add_fmri_delimiter", "use_fmri_lm_head"):
        stated = setting(args, name) is not None
        told_by = "model_args" if stated else "keys" if name.startswith("use") else "assumed"
        card.facts[name] = Known(getattr(config, name), told_by)
    given = "given" if options.prompt_layout else "assumed"
    card.facts["prompt_layout"] = Known(layout_of_prompts, given)
    card.not_known += [
        "the prompt layout (interleaved or prefix)",
        "the wording of the questions it was trained on: ours are other words",
        "the scans and people it was trained on",
    ]
    if options.merge:
        if not config.peft_tune:
            raise InputError("--merge: the checkpoint has no adapters")
        model = merge_lora(model)
        card.facts["merged"] = Known(True, "given")
    return model


def _write_run(folder: Path, card: Card, model: Any) -> None:
    from fmrilm.config.schema import Config, DataConfig, ModelConfig, save_config

    is_model = hasattr(model, "lm")
    own = model.config
    of_model = own.options() if is_model else ModelConfig(vq_model=own.vq_model)
    config = Config(model=of_model, data=DataConfig(norm="robust_global"))
    save_config(config, folder / "config.yaml")
    lineage = {
        "stage": card.stage,
        "parent": None,
        "cohorts": {},
        "imported_from": {"file": card.source, "sha256": card.sha256},
        "code_version": code_version(),
    }
    write_record(folder, lineage)
    card.write(folder)


def _say(card: Card, output: Path) -> None:
    print(f"{card.source}: stage {card.stage}, layout {card.layout}, sha256 {card.sha256[:16]}...")
    for name, fact in card.facts.items():
        print(f"  {name}: {fact.value} ({fact.source})")
    for one in card.not_used:
        print(f"  not used: {one}")
    for one in card.not_known:
        print(f"  not known: {one}")
    print(f"written to {output}; the card is {output / 'README.md'}")
