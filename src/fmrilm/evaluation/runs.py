"""A run folder as evaluation sees it: configuration, lineage, cohorts, model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fmrilm.cohort.checksums import read_checksums
from fmrilm.cohort.cohort import Cohort, read_info
from fmrilm.cohort.original import FOLDERS, find_cohort
from fmrilm.cohort.settings import described, known_state
from fmrilm.config.flags import run_folder
from fmrilm.config.schema import Config, load_config
from fmrilm.errors import InputError
from fmrilm.lineage.trained_on import changed_since, check_scaling, read_trained_on
from fmrilm.registry import suggest
from fmrilm.run_record import LINEAGE, read_lineage
from fmrilm.tasks import declare

GENERATION = ("temperature", "top_p", "top_k")  # of sampled text, which no score depends on
ANSWERING = ("align", "instruct")


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

    def check_answers(self) -> None:
        """Raise :class:`InputError` if the run is one of the tokenizer: it answers no questions."""
        if self.stage not in ANSWERING:
            raise InputError(
                f"{self.folder} is a run of stage {self.stage!r}, which answers no questions: "
                "evaluate an align or instruct run"
            )

    def load_model(self, device: str = "auto", dtype: str = "auto") -> Any:
        """The model of an align or instruct run, in evaluation mode.

        Parameters
        ----------
        device, dtype : str
            As for :meth:`fmrilm.FMRILM.from_pretrained`.

        Raises
        ------
        InputError
            If the run is a tokenizer run, which answers no questions.
        """
        self.check_answers()
        from fmrilm.lm.fmrilm import FMRILM

        return FMRILM.from_pretrained(self.folder / "model", device=device, dtype=dtype)


def open_run(folder: str | Path) -> Run:
    """Return the run in ``folder``, or of a file in it (the original's ``.../ckpt.pt``).

    Raises
    ------
    FileNotFoundError
        If it is not a run folder: ``config.yaml``, ``lineage.json`` or ``model/`` is missing.
    """
    folder = run_folder(Path(folder))
    for name in ("config.yaml", "lineage.json", "model"):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder / name} not found: give a run folder that `fmrilm train` has finished"
            )
    lineage = read_lineage(folder)
    config = load_config([folder / "config.yaml"])
    declare(config)
    return Run(folder, config, lineage)


def with_config(run: Run, files: Sequence[Path], lm_name: str | None = None) -> Run:
    """Return a run whose cohorts are asked what YAML files say.

    Raises
    ------
    InputError
        If a file, or ``lm_name``, says something else about the model than the run was built with.
    """
    config = run.config
    if lm_name is not None and lm_name != config.model.lm.base_model:
        raise InputError(
            f"--lm_name is {lm_name!r}, {run.folder} was trained with "
            f"{config.model.lm.base_model!r}: leave it out, or give the same"
        )
    if not files:
        return run
    given = load_config(files, base=config)
    for section in ("vq_model", "lm"):
        built, asked = getattr(config.model, section), getattr(given.model, section)
        for item in fields(built):
            then, now = getattr(built, item.name), getattr(asked, item.name)
            if then != now and item.name not in GENERATION:
                raise InputError(
                    f"model.{section}.{item.name} is {now!r}, but {run.folder} was trained with "
                    f"{then!r}: leave it out, or give the same"
                )
    config = replace(config, datasets=given.datasets, tasks=given.tasks)
    declare(config)
    return replace(run, config=config)


def find_parent(run: Run) -> Run | None:
    """Return the run that ``run`` started from; None if it had none, or its folder is gone.

    A folder that was moved together with its parent is found again.
    """
    parent = run.lineage["parent"]
    is_there = parent is not None and (Path(parent) / LINEAGE).is_file()
    return open_run(parent) if is_there else None


def never_trained_on(run: Run, cohort: Cohort) -> bool:
    """Return whether no stage of a run saw a scan of a cohort, by its name or by its series."""
    stage: Run | None = run
    scans = set(read_checksums(cohort.store))
    while stage is not None:
        seen = read_trained_on(stage.folder)
        if cohort.name in stage.lineage["cohorts"] or seen is None:
            return False
        if "checksum" in seen and scans & set(seen["checksum"]):
            return False
        parent = find_parent(stage)
        if parent is None and stage.lineage.get("parent") is not None:
            return False  # its folder is gone: what it saw is not known
        stage = parent
    return True


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
        try:
            folder = Path(trained[name]["folder"]) if name in trained else find_cohort(name)
        except FileNotFoundError:
            raise InputError(
                f"unknown dataset {name!r}{suggest(name, list(trained))}: {run.folder} was trained "
                f"on {', '.join(trained)}; for another cohort give its folder, or put it at "
                f"{FOLDERS[0].format(name=name)}"
            ) from None
        data = run.config.data
        state = known_state(folder, read_info(folder).name, data.state_dir, [run.folder])
        cohort = Cohort(folder, data.norm, state=state)
        cohort.info = described(cohort.info, run.config)
        for note in cohort.notes:
            print(f"note: {cohort.name} is {note}", file=sys.stderr)
        _check_unchanged(run, cohort)
        check_scaling(trained, cohort, run.folder)
        cohorts.append(cohort)
    return cohorts


def _check_unchanged(run: Run, cohort: Cohort) -> None:
    """Refuse a cohort whose scans or splits are not those of training; say what else changed."""
    changes = changed_since(run.folder, cohort)
    graver = [kind for kind in ("scans", "splits") if kind in changes]
    if graver:
        some = [name for kind in graver for name in changes[kind]]
        named = f": {', '.join(some[:3])}{' ...' if len(some) > 3 else ''}" if some else ""
        raise InputError(
            f"{cohort.folder} is not the cohort {cohort.name!r} that {run.folder} was trained on "
            f"({' and '.join(graver)} changed{named}): its test subjects may have been trained on; "
            "train again, or restore the cohort"
        )
    for kind, names in changes.items():
        what = f"{kind} ({', '.join(names)})" if names else kind
        print(
            f"note: {what} of {cohort.name} changed since {run.folder} was trained",
            file=sys.stderr,
        )
