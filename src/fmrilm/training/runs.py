"""Run folders: where a run comes from, and finding one that exists."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import fmrilm
from fmrilm.data.cohort import Cohort
from fmrilm.data.trained_on import write_trained_on
from fmrilm.errors import InputError


def write_lineage(output: Path, stage: str, parent: Path | None, cohorts: list[Cohort]) -> None:
    """Write where a run comes from: stage, parent, data, code version."""
    lineage = {
        "stage": stage,
        "parent": None if parent is None else str(parent.resolve()),
        "cohorts": {
            cohort.name: {
                "folder": str(cohort.folder.resolve()),
                "fingerprint": cohort.fingerprint(),
                "synthetic": cohort.info.synthetic,
                "scaling": cohort.scaler.to_dict(),
            }
            for cohort in cohorts
        },
        "code_version": _code_version(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    (output / "lineage.json").write_text(json.dumps(lineage, indent=2), encoding="utf-8")
    write_trained_on(output, cohorts)


def read_lineage(output: Path) -> dict[str, Any]:
    """Return what :func:`write_lineage` wrote."""
    path = output / "lineage.json"
    if not path.is_file():
        raise InputError(f"{output} is no run folder to resume: leave out --resume")
    return json.loads(path.read_text(encoding="utf-8"))


def _code_version() -> str:
    here = Path(__file__).parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True
    )
    commit = done.stdout.strip()
    return f"{fmrilm.__version__}+{commit}" if commit else fmrilm.__version__


def find_run(path: Path) -> Path:
    """Return the run folder that ``path`` is, or a file in it (the original's ``.../ckpt.pt``)."""
    folder = path.parent if path.suffix == ".pt" else path
    if not (folder / "model").is_dir():
        raise FileNotFoundError(f"{folder} holds no trained model: train that stage first")
    return folder
