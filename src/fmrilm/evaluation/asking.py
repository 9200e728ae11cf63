"""What a run is asked, and the pass over its cohorts that answers it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.settings import with_targets
from fmrilm.cohort.splits import EVERYONE
from fmrilm.errors import InputError
from fmrilm.evaluation.answering import answer_question
from fmrilm.evaluation.descriptions.descriptions import TASK as DESCRIBE
from fmrilm.evaluation.descriptions.descriptions import DescriptionResult, describe_scans
from fmrilm.evaluation.descriptions.references import read_measured
from fmrilm.evaluation.descriptions.samples import write_generations
from fmrilm.evaluation.options import EvaluationOptions
from fmrilm.evaluation.questions import Question, ask, prompts_for, select, tasks_of
from fmrilm.evaluation.results import TaskResult
from fmrilm.evaluation.resume import ScoreLog, log_path, sources
from fmrilm.evaluation.runs import Run, find_parent, never_trained_on, open_cohorts
from fmrilm.evaluation.scoring import Scorer, check_shape
from fmrilm.stats.kinds import NUMBER


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


def make_plan(run: Run, options: EvaluationOptions) -> Plan:
    """Return what a run is asked; anything wrong with it is found before a model is loaded.

    Parameters
    ----------
    run : Run
    options : EvaluationOptions

    Raises
    ------
    InputError
        If a cohort or its labels do not fit the run or its tasks.
    """
    questions, described = [], []
    cohorts = open_cohorts(run, options.datasets)
    run = replace(run, config=with_targets(run.config, cohorts))
    vq = run.config.model.vq_model
    asked = [name.strip() for name in options.tasks.split(",")] if options.tasks else []
    named = [name for name in asked if name != DESCRIBE]
    for cohort in cohorts:
        split = options.scored_split
        if options.split is None and never_trained_on(run, cohort):
            split = EVERYONE
            print(
                f"{cohort.name}: no stage of {run.folder} was trained on it, all {len(cohort)} "
                "scans are held out and asked; baselines are fitted on other people in five folds"
            )
        check_shape(cohort, vq.num_rois, vq.num_timestamp, run.config.data.length)
        if DESCRIBE in asked:
            read_measured(cohort, run.config.data.desc_type).check(cohort, options.scored_split)
            described.append(cohort)
        for task in tasks_of(cohort, run.config, named) if named or not asked else ():
            question = select(cohort, task, split)
            prompts_for(question, run.config)
            if options.head:
                _check_head(run, question)
            if options.per_token and question.kind.how == NUMBER:
                raise InputError(
                    f"--normalise compares answers of different lengths, task {task.name!r} asks "
                    "for a number: leave one of them out"
                )
            questions.append(question)
    return Plan(run, questions, described)


def made_from(plan: Plan, options: EvaluationOptions) -> dict[str, Any]:
    """Return hashes of all that the results of a plan depend on, and the options."""
    model = plan.run.folder / "model"
    return {**sources(model, list(plan.cohorts.values())), "settings": options.of_scores()}


def _check_head(run: Run, question: Question) -> None:
    lm = run.config.model.lm
    if not lm.use_cls_head:
        raise InputError(f"{run.folder} was trained without use_cls_head: use --answer words")
    question.kind.check_head(question.task, lm.num_classes)


def carry_out(
    plan: Plan, options: EvaluationOptions, folder: Path
) -> tuple[list[TaskResult], list[DescriptionResult]]:
    """Return the results of a plan, on questions and on descriptions.

    Parameters
    ----------
    plan : Plan
    options : EvaluationOptions
    folder : path
        Where answers are kept while it goes on, and the sample texts afterwards.
    """
    run = plan.run
    points, length = run.config.model.vq_model.num_timestamp, run.config.data.length
    model = run.load_model(options.device, options.dtype)
    logs = {
        key: ScoreLog(
            log_path(folder, run.folder / "model", cohort, points, f"{length} {options.dtype}")
        )
        for key, cohort in plan.cohorts.items()
    }
    rule = options.normalise if options.per_token else None
    scorers = {
        key: Scorer(model, cohort, points, options.batch_size, logs[key], length, rule)
        for key, cohort in plan.cohorts.items()
    }
    total = sum(len(question.rows) for question in plan.questions) * (options.passes + 1)
    total += sum(len(cohort.indices(options.scored_split)) for cohort in plan.described)
    with _progress(total) as (advance, say):
        say("all questions of each scan")
        for key, scorer in scorers.items():
            of_cohort = [question for question in plan.questions if id(question.cohort) == key]
            asked = [ask(q, prompts_for(q, run.config), options.head) for q in of_cohort]
            scorer.read(asked, advance=advance)
        results = []
        for question in plan.questions:
            say(f"{question.cohort.name} · {question.task.name}")
            scorer = scorers[id(question.cohort)]
            results.append(answer_question(question, run.config, scorer, options, advance, say))
        say("descriptions")
        described = [
            describe_scans(scorers[id(cohort)], run.config, options, advance)
            for cohort in plan.described
        ]
        if plan.questions:
            _write_samples(plan, list(scorers.values()), options, folder)
    for log in logs.values():
        log.remove()
    return results, described


def _write_samples(
    plan: Plan, scorers: list[Scorer], options: EvaluationOptions, folder: Path
) -> None:
    """Write sample texts of the run, and of the align run it started from."""
    run, length = plan.run, plan.run.config.data.length
    points = run.config.model.vq_model.num_timestamp
    writers = {run.stage: scorers}
    parent = find_parent(run)
    if options.samples and parent is not None and parent.stage == "align":
        before = parent.load_model(options.device, options.dtype)
        writers[parent.stage] = [
            Scorer(before, cohort, points, options.batch_size, length=length)
            for cohort in plan.cohorts.values()
        ]
    write_generations(folder, writers, run.config, options.scored_split, options.samples)


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
