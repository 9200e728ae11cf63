"""What a run is asked, and the pass over its cohorts that answers it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmrilm.data.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.evaluation.answering import Settings, answer_question
from fmrilm.evaluation.describing import TASK as DESCRIBE
from fmrilm.evaluation.describing import DescriptionResult, describe_scans
from fmrilm.evaluation.generations import write_generations
from fmrilm.evaluation.measured import read_measured
from fmrilm.evaluation.questions import Question, ask, prompts_for, select, tasks_of
from fmrilm.evaluation.results import TaskResult
from fmrilm.evaluation.runs import Run, find_parent, open_cohorts
from fmrilm.evaluation.scoring import Scorer, check_shape
from fmrilm.evaluation.unfinished import ScoreLog, log_path


@dataclass(frozen=True)
class Plan:
    """A run with the questions it is asked, and the cohorts whose scans it describes."""

    run: Run
    questions: list[Question]
    described: list[Cohort] = field(default_factory=list)

    @property
    def cohorts(self) -> dict[int, Cohort]:
        """All cohorts, by identity."""
        found = [*(question.cohort for question in self.questions), *self.described]
        return {id(cohort): cohort for cohort in found}


def make_plan(run: Run, datasets: str | None, asked: list[str], settings: Settings) -> Plan:
    """Return what a run is asked; anything wrong with it is found before a model is loaded.

    Parameters
    ----------
    run : Run
    datasets : str, optional
    asked : list of str
        Tasks; ``describe`` has the scans described. Empty: those the run was trained on.
    settings : Settings

    Raises
    ------
    InputError
        If a cohort or its labels do not fit the run or its tasks.
    """
    questions, described = [], []
    vq = run.config.model.vq_model
    named = [name for name in asked if name != DESCRIBE]
    for cohort in open_cohorts(run, datasets):
        check_shape(cohort, vq.num_rois, vq.num_timestamp, run.config.data.length)
        if DESCRIBE in asked:
            read_measured(cohort, run.config.data.desc_type).check(cohort, settings.split)
            described.append(cohort)
        for task in tasks_of(cohort, run.config, named) if named or not asked else ():
            question = select(cohort, task, settings.split)
            prompts_for(question, run.config)
            if settings.head:
                _check_head(run, question)
            questions.append(question)
    return Plan(run, questions, described)


def _check_head(run: Run, question: Question) -> None:
    lm = run.config.model.lm
    if not lm.use_cls_head:
        raise InputError(f"{run.folder} was trained without use_cls_head: use --answer words")
    question.kind.check_head(question.task, lm.num_classes)


def carry_out(
    plan: Plan, settings: Settings, folder: Path, samples: int
) -> tuple[list[TaskResult], list[DescriptionResult]]:
    """Return the results of a plan, on questions and on descriptions.

    Parameters
    ----------
    plan : Plan
    settings : Settings
    folder : path
        Where answers are kept while it goes on, and the sample texts afterwards.
    samples : int
        Scans per cohort whose texts are written to ``generations.json``.
    """
    run = plan.run
    points, length = run.config.model.vq_model.num_timestamp, run.config.data.length
    model = run.load_model()
    logs = {
        key: ScoreLog(log_path(folder, run.folder / "model", cohort.name, cohort.fingerprint()))
        for key, cohort in plan.cohorts.items()
    }
    scorers = {
        key: Scorer(model, cohort, points, settings.batch_size, logs[key], length)
        for key, cohort in plan.cohorts.items()
    }
    total = sum(len(question.rows) for question in plan.questions) * (settings.passes + 1)
    total += sum(len(cohort.indices(settings.split)) for cohort in plan.described)
    with _progress(total) as (advance, say):
        say("all questions of each scan")
        for key, scorer in scorers.items():
            of_cohort = [question for question in plan.questions if id(question.cohort) == key]
            asked = [ask(q, prompts_for(q, run.config), settings.head) for q in of_cohort]
            scorer.read(asked, advance=advance)
        results = []
        for question in plan.questions:
            say(f"{question.cohort.name} · {question.task.name}")
            scorer = scorers[id(question.cohort)]
            results.append(answer_question(question, run.config, scorer, settings, advance, say))
        say("descriptions")
        described = [
            describe_scans(scorers[id(cohort)], run.config, settings, advance)
            for cohort in plan.described
        ]
        if plan.questions:
            _write_samples(plan, list(scorers.values()), settings, folder, samples)
    for log in logs.values():
        log.remove()
    return results, described


def _write_samples(
    plan: Plan, scorers: list[Scorer], settings: Settings, folder: Path, samples: int
) -> None:
    """Write sample texts of the run, and of the align run it started from."""
    run, length = plan.run, plan.run.config.data.length
    points = run.config.model.vq_model.num_timestamp
    writers = {run.stage: scorers}
    parent = find_parent(run)
    if samples and parent is not None and parent.stage == "align":
        before = parent.load_model()
        writers[parent.stage] = [
            Scorer(before, cohort, points, settings.batch_size, length=length)
            for cohort in plan.cohorts.values()
        ]
    write_generations(folder, writers, run.config, settings.split, samples)


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[int], None], Callable[[str], None]]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns: Any = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, Remaining(), console=Console(stderr=True), transient=True) as bar:
        job = bar.add_task("scoring", total=total)
        yield (
            lambda count: bar.advance(job, count),
            lambda text: bar.update(job, description=text),
        )
