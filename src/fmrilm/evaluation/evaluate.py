"""`fmrilm evaluate`: the scores of a run beside its baselines and controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fmrilm.errors import InputError
from fmrilm.evaluation.answering import Settings, answer_question
from fmrilm.evaluation.generations import write_generations
from fmrilm.evaluation.questions import Question, ask, prompts_for, select, tasks_of
from fmrilm.evaluation.results import TaskResult, write_results
from fmrilm.evaluation.runs import Run, find_parent, note_reading, open_cohorts, open_run
from fmrilm.evaluation.scoring import Scorer, check_shape
from fmrilm.evaluation.table import print_results, to_markdown
from fmrilm.evaluation.tokenizers import evaluate_tokenizer
from fmrilm.evaluation.unfinished import ScoreLog, log_path


def evaluate(
    runs: list[str],
    *,
    output: str | None = None,
    datasets: str | None = None,
    tasks: str | None = None,
    split: str = "test",
    batch_size: int = 32,
    use_allowed_tokens: bool = True,
    free_text: bool = True,
    baselines: str = "standard",
    controls: str = "standard",
    scrutiny: bool = True,
    answer: str = "words",
    samples: int = 4,
    n_resamples: int = 2000,
    seed: int = 0,
    strict: bool = False,
) -> list[TaskResult]:
    """Score runs on held-out subjects, beside plain baselines and controls without the scan.

    Answers are scored by the log-probability of each candidate, so nothing is sampled and a second
    call gives the same numbers; one that was interrupted goes on where it stopped. A run's results
    are ``metrics.json``, ``controls.json``, ``predictions.csv``, ``comparison.csv``,
    ``generations.json`` and ``summary.md``. Reading the test split is noted in the run folder.

    Parameters
    ----------
    runs : list of str
        Run folders of stage align or instruct; or of stage tokenizer alone, for what its tokens
        keep of a scan, beside PCA of equal bits.
    output : str, optional
        Folder for the results (one subfolder per run if there are several); without it
        <run>/evaluation.
    datasets : str, optional
        Comma-separated names of cohorts the run was trained on, or folders of others; without it
        all it was trained on.
    tasks : str, optional
        Comma-separated tasks; without it those the run was trained on.
    split : str
        train, val or test.
    batch_size : int
        Scans scored at once.
    use_allowed_tokens : bool
        Choose among the task's answers; otherwise the free text is the answer, and one that
        cannot be read is wrong.
    free_text : bool
        Also let the model write its answer, and count what can be read.
    baselines : str
        standard, all, none, or comma-separated names of baselines.
    controls : str
        standard (text only, shuffled, zero) or all (also randomised phases, the cohort's sentence
        alone, and every wording of the question).
    scrutiny : bool
        Also calibration (fitted on val), prediction sets, confounds, and gaps between groups.
    answer : str
        What answers: words (the language model: probabilities of the answers, the expected value
        of a number) or head (the classification or regression head of a run with use_cls_head).
    samples : int
        Scans that are described in free text.
    n_resamples : int
        Bootstrap resamples of the subjects.
    seed : int
        Of the resamples and of the shuffled scans.
    strict : bool
        Exit with 1 if there is a task to which the scan adds nothing.

    Returns
    -------
    list of TaskResult
        One per run, cohort and task.

    Raises
    ------
    InputError
        If a cohort does not fit the model, a task is unknown, a label column is absent, or the
        split is empty.
    FileNotFoundError
        If a run or cohort folder is incomplete.

    Examples
    --------
    fmrilm evaluate runs/instruct
    fmrilm evaluate runs/instruct --datasets UKB,HCP --split val --batch_size 64
    """
    if not use_allowed_tokens and not free_text:
        raise InputError("--no-use_allowed_tokens takes the free text: drop --no-free_text")
    if controls not in ("standard", "all"):
        raise InputError(f"unknown controls {controls!r}: use standard or all")
    if answer not in ("words", "head"):
        raise InputError(f"unknown answer {answer!r}: use words or head")
    settings = Settings(
        split,
        batch_size,
        use_allowed_tokens,
        free_text,
        baselines,
        controls,
        scrutiny,
        n_resamples,
        seed,
        answer == "head",
    )
    asked = [name.strip() for name in tasks.split(",")] if tasks else []
    opened = [open_run(folder) for folder in runs]
    names = [run.folder.resolve().name for run in opened]
    if output and len(set(names)) < len(names):
        raise InputError("two runs have the same folder name: evaluate them one by one")
    if not tasks and all(run.stage == "tokenizer" for run in opened):
        for run, name in zip(opened, names, strict=True):
            folder = Path(output) / name if output else run.folder / "evaluation"
            evaluate_tokenizer(run, open_cohorts(run, datasets), split, batch_size, folder)
        return []
    plans = [_plan(run, datasets, asked, settings) for run in opened]
    everything: list[TaskResult] = []
    for run, name, questions in zip(opened, names, plans, strict=True):
        folder = run.folder / "evaluation"
        if output:
            folder = Path(output) / name if len(opened) > 1 else Path(output)
        results = _evaluate_run(run, questions, settings, folder, samples)
        title = f"{run.folder} · {split} subjects"
        write_results(folder, str(run.folder), results)
        (folder / "summary.md").write_text(to_markdown(results, title), encoding="utf-8")
        print_results(results, title)
        if split == "test":
            count = note_reading(run, [f"{found.cohort}:{found.task}" for found in results])
            print(f"times the test subjects were read for this run: {count}")
        print(f"results in {folder}")
        everything += results
    if strict and not all(result.verdict["scan_adds"] for result in everything):
        raise SystemExit(1)
    return everything


def _plan(run: Run, datasets: str | None, asked: list[str], settings: Settings) -> list[Question]:
    """Return the questions of a run; anything wrong with them is found before a model is loaded."""
    questions = []
    vq = run.config.model.vq_model
    for cohort in open_cohorts(run, datasets):
        check_shape(cohort, vq.num_rois, vq.num_timestamp, run.config.data.length)
        for task in tasks_of(cohort, run.config, asked):
            question = select(cohort, task, settings.split)
            prompts_for(question, run.config)
            if settings.head:
                _check_head(run, question)
            questions.append(question)
    return questions


def _check_head(run: Run, question: Question) -> None:
    lm = run.config.model.lm
    if not lm.use_cls_head:
        raise InputError(f"{run.folder} was trained without use_cls_head: use --answer words")
    question.kind.check_head(question.task, lm.num_classes)


def _evaluate_run(
    run: Run, questions: list[Question], settings: Settings, folder: Path, samples: int
) -> list[TaskResult]:
    points, length = run.config.model.vq_model.num_timestamp, run.config.data.length
    model = run.load_model()
    cohorts = {id(question.cohort): question.cohort for question in questions}
    logs = {
        key: ScoreLog(log_path(folder, run.folder / "model", cohort.name, cohort.fingerprint()))
        for key, cohort in cohorts.items()
    }
    scorers = {
        key: Scorer(model, cohort, points, settings.batch_size, logs[key], length)
        for key, cohort in cohorts.items()
    }
    total = sum(len(question.rows) for question in questions) * (settings.passes + 1)
    with _progress(total) as (advance, say):
        say("all questions of each scan")
        for key, scorer in scorers.items():
            of_cohort = [question for question in questions if id(question.cohort) == key]
            asked = [ask(q, prompts_for(q, run.config), settings.head) for q in of_cohort]
            scorer.read(asked, advance=advance)
        results = []
        for question in questions:
            say(f"{question.cohort.name} · {question.task.name}")
            scorer = scorers[id(question.cohort)]
            results.append(answer_question(question, run.config, scorer, settings, advance, say))
        say("descriptions")
        writers = {run.stage: list(scorers.values())}
        parent = find_parent(run)
        if samples and parent is not None and parent.stage == "align":
            before = parent.load_model()
            writers[parent.stage] = [
                Scorer(before, cohort, points, settings.batch_size, length=length)
                for cohort in cohorts.values()
            ]
        write_generations(folder, writers, run.config, settings.split, samples)
    for log in logs.values():
        log.remove()
    return results


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[int], None], Callable[[str], None]]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        job = bar.add_task("scoring", total=total)
        yield (
            lambda count: bar.advance(job, count),
            lambda text: bar.update(job, description=text),
        )
