"""`fmrilm merge`: a run whose adapters are part of the language model's weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from fmrilm.config import load_config, save_config
from fmrilm.errors import InputError
from fmrilm.training.runs import find_run


def merge(run: Path, *, output: Path) -> Path:
    """Write a run folder in which the adapters are merged into the language model.

    It answers as the run does, needs no peft, and holds the whole language model.

    Parameters
    ----------
    run : Path
        A run folder trained with LoRA.
    output : Path
        The folder to write; it must not exist.

    Examples
    --------
    fmrilm merge runs/inst -o runs/inst-merged
    """
    import dataclasses

    from fmrilm.models.adapters import merge_lora
    from fmrilm.models.fmrilm import FMRILM

    folder = find_run(run)
    if output.exists():
        raise InputError(f"{output} exists: give another folder, or remove it")
    model = merge_lora(FMRILM.from_pretrained(folder / "model"))
    output.mkdir(parents=True)
    model.save_pretrained(output / "model")
    config = load_config([folder / "config.yaml"])
    config = dataclasses.replace(config, model=model.config)
    save_config(config, output / "config.yaml")
    lineage = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))
    lineage["merged_from"] = str(folder.resolve())
    (output / "lineage.json").write_text(json.dumps(lineage, indent=2), encoding="utf-8")
    for name in ("log.jsonl",):
        if (folder / name).is_file():
            shutil.copy(folder / name, output / name)
    return output
