"""What a configuration says about cohorts: sentence, targets, where our own files about them go."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.original import state_folder
from fmrilm.config.schema import Config
from fmrilm.progress import say
from fmrilm.run_record import read_lineage
from fmrilm.studies.known import CohortInfo
from fmrilm.tasks import declare, undeclared


def known_state(
    folder: Path, name: str, state_dir: str | None, runs: Sequence[Path]
) -> Path | None:
    """Return where our files about a cohort lie: where a run has them, else where they go.

    See :func:`fmrilm.cohort.original.state_folder` for the parameters.
    """
    if state_dir is None:
        for run in runs:
            path = run / "lineage.json"
            if not path.is_file():
                continue
            state = read_lineage(run)["cohorts"].get(name, {}).get("state")
            was_ours = state is not None and Path(state) == folder.resolve()
            if state is not None and not was_ours and Path(state).is_dir():
                return Path(state)
    return state_folder(folder, name, state_dir, runs)


def described(info: CohortInfo, config: Config) -> CohortInfo:
    """Return what is known of a cohort, with the sentence that the configuration has for it."""
    dataset = config.datasets.get(info.name)
    if dataset is None or not dataset.description:
        return info
    return dataclasses.replace(info, description=dataset.description)


def with_targets(config: Config, cohorts: Sequence[Cohort]) -> Config:
    """Return a configuration in which every target of the cohorts is declared, and declare them.

    A target of which only the name is given is declared from its labels, which is said.
    """
    tasks = dict(config.tasks)
    for cohort in cohorts:
        for name, task in undeclared(config, cohort.name, cohort.table).items():
            tasks[name] = task
            say(
                f"{cohort.name}: target {name} is not declared, it is asked as {task.question!r} "
                f"with the labels as answers: {', '.join(task.answers)}"
            )
    if len(tasks) == len(config.tasks):
        return config
    config = dataclasses.replace(config, tasks=tasks)
    declare(config, replace=True)
    return config
