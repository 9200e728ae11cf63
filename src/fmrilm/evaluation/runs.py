"""A run folder as evaluation sees it: configuration, lineage, cohorts, model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fmrilm.config import Config, load_config
from fmrilm.data.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.registry import suggest

ANSWERING = ("align", "instruct")
READINGS = "test_readings.jsonl"


@dataclass(frozen=True)
class Run:
    """One run folder, read but not loaded."""

    folder: Path
    config: Config
    lineage: dict[str, Any]

    @property
    def stage(self) -> str:
        """Which of the three stages made it: tokenizer, align or instruct."""
        return str(self.lineage["stage"])

    def load_model(self) -> Any:
        """Return the model of an align or instruct run, on CPU, in eval mode.

        Raises
        ------
        InputError
            If the run is a tokenizer run, which answers no questions.
        """
        if self.stage not in ANSWERING:
            raise InputError(
                f"{self.folder} is a run of stage {self.stage!r}, which answers no questions: "
                "evaluate an align or instruct run"
            )
        from fmrilm.models.fmrilm import FMRILM

        return FMRILM.from_pretrained(self.folder / "model")


def open_run(folder: str | Path) -> Run:
    """Return the run in ``folder``.

    Raises
    ------
    FileNotFoundError
        If it is not a run folder: ``config.yaml``, ``lineage.json`` or ``model/`` is missing.
    """
    folder = Path(folder)
    for name in ("config.yaml", "lineage.json", "model"):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder / name} not found: give a run folder that `fmrilm train` has finished"
            )
    lineage = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))
    return Run(folder, load_config([folder / "config.yaml"]), lineage)


def find_parent(run: Run) -> Run | None:
    """Return the run that ``run`` started from; None if it had none, or its folder is gone.

    A folder that was moved together with its parent is found beside it.
    """
    parent = run.lineage.get("parent")
    if parent is None:
        return None
    for folder in (Path(parent), run.folder.resolve().parent / Path(parent).name):
        if (folder / "lineage.json").is_file():
            return open_run(folder)
    return None


def open_cohorts(run: Run, datasets: str | Sequence[str] | None = None) -> list[Cohort]:
    """Return the cohorts a run is evaluated on.

    Parameters
    ----------
    run : Run
    datasets : str or sequence of str, optional
        Comma-separated names of cohorts the run was trained on, or folders of other cohorts
        (zero-shot); None: those it was trained on.

    Raises
    ------
    InputError
        If a name is unknown, or a cohort is no longer the one the run was trained on.
    FileNotFoundError
        If a cohort's folder is gone.
    """
    trained: dict[str, Any] = run.lineage["cohorts"]
    names = datasets.split(",") if isinstance(datasets, str) else list(datasets or trained)
    cohorts = []
    for name in (name.strip() for name in names):
        if name not in trained and not Path(name).is_dir():
            raise InputError(
                f"unknown dataset {name!r}{suggest(name, list(trained))}: {run.folder} was trained "
                f"on {', '.join(trained)}; for another cohort give its folder"
            )
        folder = Path(trained[name]["folder"]) if name in trained else Path(name)
        cohort = Cohort(folder, run.config.data.norm)
        _check_unchanged(run, cohort)
        cohorts.append(cohort)
    return cohorts


def _check_unchanged(run: Run, cohort: Cohort) -> None:
    known = run.lineage["cohorts"].get(cohort.name)
    if known and known.get("fingerprint") not in (None, cohort.fingerprint()):
        raise InputError(
            f"{cohort.folder} is not the cohort {cohort.name!r} that {run.folder} was trained on "
            "(scans or splits changed): its test subjects may have been trained on; train again, "
            "or restore the cohort"
        )


def note_reading(run: Run, asked: Sequence[str]) -> int:
    """Note in the run folder that its test subjects were looked at; return how often they were.

    Choosing among models by their test scores makes the scores too good; the count shows it.

    Parameters
    ----------
    run : Run
    asked : sequence of str
        ``cohort:task`` of what was asked.
    """
    entry = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "asked": list(asked)}
    with (run.folder / READINGS).open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(entry) + "\n")
    return count_readings(run)


def count_readings(run: Run) -> int:
    """Return how often the test subjects were looked at for this run."""
    path = run.folder / READINGS
    return len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else 0
