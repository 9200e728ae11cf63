"""Run folders: where a run comes from, and finding one that exists."""

from __future__ import annotations

import shutil
import time
import uuid
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmrilm.cohort.cohort import Cohort
from fmrilm.config.flags import run_folder
from fmrilm.config.schema import Config, load_config
from fmrilm.errors import InputError
from fmrilm.hashing import code_version
from fmrilm.lineage.trained_on import about_data, changed_since, write_trained_on
from fmrilm.run_record import write_record

if TYPE_CHECKING:
    from fmrilm.lm.language_models import BaseModel

TRACKED = "fmrilm"  # project name at the trackers, and their folder in a run's


def write_lineage(
    output: Path,
    stage: str,
    parent: Path | None,
    cohorts: list[Cohort],
    base: BaseModel | None = None,
) -> str:
    """Write where a new run comes from: stage, parent, data, language model, code version.

    The run's id is returned.
    """
    write_trained_on(output, cohorts)
    lineage = {
        "run": uuid.uuid4().hex,
        "stage": stage,
        "parent": None if parent is None else str(parent.resolve()),
        "cohorts": {cohort.name: about_data(cohort) for cohort in cohorts},
        "language_model": None if base is None else asdict(base),
        "code_version": code_version(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    write_record(output, lineage)
    return str(lineage["run"])


def check_unused(output: Path) -> None:
    """Raise :class:`InputError` if a folder holds a run that was trained for an epoch or more."""
    held = [name for name in ("model", "checkpoints", "log.jsonl") if (output / name).exists()]
    if held:
        raise InputError(
            f"{output} holds a run ({', '.join(held)}): go on with it by --resume, delete it by "
            "--overwrite, or give another folder"
        )


def clear_run(output: Path) -> None:
    """Delete an old run, and nothing else that lies in its folder; a folder without one is kept.

    The readings of test people (``test_readings.jsonl``) stay: they have been read.
    """
    if not (output / "lineage.json").is_file():
        return
    forget_results(output)
    for name in ("config.yaml", "trained_on.tsv", "log.jsonl", "done"):
        (output / name).unlink(missing_ok=True)
    for name in ("checkpoints", "model", "model.partial", "model.old", TRACKED):
        shutil.rmtree(output / name, ignore_errors=True)
    (output / "lineage.json").unlink()  # last: what is left of an interruption is still a run


def forget_results(output: Path) -> None:
    """Delete what was found with the model that a folder held before."""
    for folder in (output / "evaluation", *output.glob("explanation_*")):
        shutil.rmtree(folder, ignore_errors=True)


def check_same_run(
    output: Path, lineage: dict[str, Any], config: Config, cohorts: list[Cohort]
) -> None:
    """Check that a run can be resumed: on the same data, with the same model.

    Raises
    ------
    InputError
        If the options differ in more than ``train``, or a cohort is not the one it began with.
    """
    saved = load_config([output / "config.yaml"])
    moved = replace(saved.data, dataset_dir=config.data.dataset_dir)  # what is in it is compared
    saved = replace(saved, data=moved)
    for section in fields(config):
        same = getattr(saved, section.name) == getattr(config, section.name)
        if section.name != "train" and not same:
            raise InputError(
                f"--resume goes on with the options of {output}, only train.* may change: "
                f"leave out {section.name}.*, or train into another folder"
            )
    for cohort in cohorts:
        changes = changed_since(output, cohort)
        if changes or cohort.name not in lineage["cohorts"]:
            raise InputError(
                f"{cohort.folder} changed since {output} began ({', '.join(changes) or 'name'}): "
                "restore it, or start anew with --overwrite"
            )


def check_base(lineage: dict[str, Any], base: BaseModel | None) -> None:
    """Raise :class:`InputError` if a run would go on with another language model than it began."""
    known = lineage.get("language_model")
    if known is not None and base is not None and known["weights"] != base.weights:
        raise InputError(
            f"the run began with {known['name']!r} (revision {known['revision']}, weights "
            f"{known['weights'][:12]}), now there is {base.name!r} (revision {base.revision}, "
            f"weights {base.weights[:12]}): get the former again, or train without --resume"
        )


def find_run(path: Path) -> Path:
    """Return the run folder that ``path`` is, or a file in it (the original's ``.../ckpt.pt``)."""
    folder = run_folder(path)
    if not (folder / "model").is_dir():
        raise FileNotFoundError(f"{folder} holds no trained model: train that stage first")
    return folder
