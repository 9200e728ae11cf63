"""`fmrilm merge`: adapters become part of the weights, sharded checkpoints a normal folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from fmrilm.config.schema import load_config, save_config
from fmrilm.errors import InputError
from fmrilm.lineage.card import write_card
from fmrilm.lineage.trained_on import SEEN_FILE, TRAINED_ON_FILE
from fmrilm.processing.recipes import copy_processor
from fmrilm.run_record import read_lineage, write_record
from fmrilm.training.runs import find_run


def merge(run: Path, *, output: Path, checkpoint: bool = False) -> Path:
    """Write a run folder in which the adapters are merged into the language model.

    It answers as the run does, needs no peft, and holds the whole language model. With
    ``checkpoint`` the last checkpoint is made a normal run folder instead, adapters as they are:
    of a run that was interrupted, whoever wrote it (one process, FSDP, DeepSpeed ZeRO).

    Parameters
    ----------
    run : Path
        A run folder trained with LoRA; with ``checkpoint`` any.
    output : Path
        The folder to write; it must not exist.
    checkpoint : bool
        Take the weights of the last checkpoint instead of the exported model.

    Examples
    --------
    fmrilm merge runs/inst -o runs/inst-merged
    fmrilm merge runs/inst -o runs/inst-epoch-7 --checkpoint
    """
    if output.exists():
        raise InputError(f"{output} exists: give another folder, or remove it")
    if checkpoint:
        return _from_checkpoint(run, output)
    import dataclasses

    from fmrilm.lm.adapters import merge_lora
    from fmrilm.lm.fmrilm import FMRILM

    folder = find_run(run)
    model = merge_lora(FMRILM.from_pretrained(folder / "model"))
    output.mkdir(parents=True)
    model.save_pretrained(output / "model")
    config = load_config([folder / "config.yaml"])
    save_config(dataclasses.replace(config, model=model.config.options()), output / "config.yaml")
    return _say_where_from(folder, output)


def _from_checkpoint(run: Path, output: Path) -> Path:
    from fmrilm.training.build import rebuild_objective
    from fmrilm.training.checkpoints import latest_checkpoint, merge_checkpoint
    from fmrilm.training.trainer import CHECKPOINTS

    instead = "give the folder of a run that was trained with --save_ckpt (train.save_ckpt=true)"
    path = latest_checkpoint(run / CHECKPOINTS, instead)
    objective = rebuild_objective(run)
    merge_checkpoint(path, objective)
    output.mkdir(parents=True)
    objective.export(output / "model")
    copy_processor(run / "model", output / "model")
    shutil.copy(run / "config.yaml", output / "config.yaml")
    return _say_where_from(run, output)


def _say_where_from(folder: Path, output: Path) -> Path:
    lineage = read_lineage(folder) | {"merged_from": str(folder.resolve())}
    write_record(output, lineage)
    for name in ("log.jsonl", TRAINED_ON_FILE, SEEN_FILE):
        if (folder / name).is_file():
            shutil.copy(folder / name, output / name)
    write_card(output)
    return output
