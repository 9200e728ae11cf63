"""One question answered by the model, its baselines and its controls, and compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.config import Config
from fmrilm.evaluation import baselines, controls
from fmrilm.evaluation.intervals import Answers, differences, estimates, score_samples
from fmrilm.evaluation.metrics import UNPARSED
from fmrilm.evaluation.questions import Question, ask, prompts_for
from fmrilm.evaluation.results import BASELINE, CONTROL, MODEL, Predictor, TaskResult
from fmrilm.evaluation.scoring import Scorer
from fmrilm.evaluation.scrutiny import scrutinise
from fmrilm.tasks import build_prompt


@dataclass(frozen=True)
class Settings:
    """How to ask: what `evaluate` passes to each question."""

    split: str = "test"
    batch_size: int = 32
    use_allowed_tokens: bool = True
    free_text: bool = True
    baselines: str = "standard"  # standard | all | none | names
    controls: str = "standard"  # standard | all
    scrutiny: bool = True  # calibration, confounds and fairness
    n_resamples: int = 2000
    seed: int = 0
    head: bool = False  # the head of the model answers, not its words
    text_model: str | None = None  # encoder for the BERTScore of descriptions

    @property
    def control_names(self) -> tuple[str, ...]:
        """The controls that are run."""
        return controls.EXTENDED if self.controls == "all" else controls.STANDARD

    @property
    def passes(self) -> int:
        """How often every scan is gone through, for the progress bar."""
        return 1 + int(self.free_text) + len(self.control_names) - 1  # shuffles are free


def answer_question(
    question: Question,
    config: Config,
    scorer: Scorer,
    settings: Settings,
    advance: Callable[[int], None] = lambda count: None,
    say: Callable[[str], None] = lambda text: None,
) -> TaskResult:
    """Return the model's result on one question, with baselines, controls and verdict.

    Parameters
    ----------
    question : Question
    config : Config
        Of the run: what stands in the prompt.
    scorer : Scorer
        Of the model on the question's cohort.
    settings : Settings
    advance, say : callable
        Told how many scans are done, and what is being done.
    """
    task, kind, prompts = question.task, question.kind, prompts_for(question, config)

    scores = scorer.scores(ask(question, prompts, settings.head), advance=advance)
    texts = [""] * len(question.rows)
    parsed = np.full(len(question.rows), kind.unparsed)
    if settings.free_text:
        texts = scorer.texts(question.rows, prompts, advance=advance)
        parsed = np.array([kind.parse(task, text) for text in texts])
    answers = {
        "model": kind.answers(scores, None if settings.use_allowed_tokens else parsed),
        **baselines.baseline_answers(question, scorer.num_timestamp, settings.baselines, say),
        **_controls(question, config, prompts, scorer, settings, advance),
    }
    predictors = compare(answers, question, settings)
    found: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    if settings.scrutiny:
        wordings = settings.controls == "all"
        found, columns = scrutinise(question, scores, config, scorer, settings.head, wordings, say)
    cohort = question.cohort
    return TaskResult(
        cohort=cohort.name,
        synthetic=cohort.info.synthetic,
        source=cohort.info.source,
        task=task.name,
        kind=kind.name,
        candidates=task.candidates,
        split=question.split,
        n_scans=len(question.rows),
        n_subjects=question.n_subjects,
        n_missing=question.n_missing,
        class_counts=question.class_counts,
        labels=kind.describe_labels(task, question.labels),
        predictors=predictors,
        verdict=controls.verdict(predictors, kind),
        free_text=_free_text(question, parsed) if settings.free_text else None,
        answered_by="head" if settings.head else "words",
        scrutiny=found,
        predictions=_rows(question, answers["model"], texts, parsed, columns),
        compared=_comparison(question, answers),
    )


def _controls(
    question: Question,
    config: Config,
    prompts: list[str],
    scorer: Scorer,
    settings: Settings,
    advance: Callable[[int], None],
) -> dict[str, Answers]:
    """Return the answers without the scan, or with another one, by name."""
    kind, rows = question.kind, question.rows
    # Where all are asked the same, a shuffled scan has been scored already: ten shuffles are free.
    n_shuffles = controls.N_SHUFFLES if len(set(prompts)) == 1 else 1
    sources = [
        controls.shuffle_scans(question.subjects, question.sites, settings.seed + repeat)
        for repeat in range(n_shuffles)
    ]
    found = {}
    for name in settings.control_names:
        if name == "shuffled":
            asked = ask(question, prompts, settings.head)
            others = [scorer.scores(replace(asked, rows=rows[source])) for source in sources]
            found[name] = kind.answers(np.stack(others))
            continue
        told, way = prompts, name
        if name == "sentence":
            sentence = question.cohort.info.description
            told, way = [build_prompt(question.task, 0, sentence)] * len(rows), "text_only"
        scores = scorer.scores(ask(question, told, settings.head), way, advance)
        found[name] = kind.answers(scores)
    return found


def compare(
    answers: dict[str, Answers], question: Question, settings: Settings
) -> dict[str, Predictor]:
    """Return the scores of every predictor, and how far the model's (``model``) are from them."""
    labels, subjects, kind = question.labels, question.subjects, question.kind
    classes = question.task.candidates
    metrics = kind.metrics(question.task)
    samples = score_samples(answers, labels, subjects, metrics, settings.n_resamples, settings.seed)
    names = {"model": "fMRI-LM", **baselines.titles(kind), **controls.TITLES}
    predictors = {}
    for name, answer in answers.items():
        found = estimates(samples[name], labels, subjects, classes)
        if name == "model":
            predictors[name] = Predictor(MODEL, names[name], found)
            continue
        pair = [one.repetitions()[0][0] for one in (answers["model"], answer)]
        test = kind.test(labels, pair, subjects)
        predictors[name] = Predictor(
            CONTROL if name in controls.TITLES else BASELINE,
            names[name],
            found,
            differences(samples["model"], samples[name], labels, subjects, classes),
            test.p_value,
            test.method,
        )
    return predictors


def _free_text(question: Question, parsed: np.ndarray) -> dict[str, int]:
    read = (parsed != UNPARSED) & ~np.isnan(parsed)
    return {
        "asked": len(parsed),
        "parsed": int(read.sum()),
        "unparsed": int((~read).sum()),
        "right": int(question.kind.is_right(question.labels, parsed).sum()),
    }


def _identity(question: Question) -> pd.DataFrame:
    table = question.cohort.table.iloc[question.rows][["subject_id", "session_id", "split"]]
    table = table.reset_index(drop=True)
    table.insert(0, "cohort", question.cohort.name)
    table["task"] = question.task.name
    classes = question.task.classes
    table["label"] = [classes[one] if classes else f"{one:g}" for one in question.labels]
    return table


def _rows(
    question: Question,
    model: Answers,
    texts: list[str],
    parsed: np.ndarray,
    columns: dict[str, Any],
) -> pd.DataFrame:
    """Return one row per scan: label, scores, answer, free text and what it was read as."""
    task, kind = question.task, question.kind
    [(scores, predicted)] = model.repetitions()
    table = _identity(question)
    table["answer"] = [kind.word(task, label) for label in question.labels]
    told = {
        **kind.columns(task, scores),
        "predicted": [kind.word(task, one) for one in predicted],
        **columns,
        "text": texts,
        "parsed": [kind.word(task, one) for one in parsed],
    }
    return pd.concat([table, pd.DataFrame(told)], axis=1)


def _comparison(question: Question, answers: dict[str, Answers]) -> pd.DataFrame:
    """Return the scores of every other predictor, one row per scan and predictor."""
    tables = []
    for name, found in answers.items():
        if name == "model":
            continue
        table = _identity(question)
        table["predictor"] = name
        scores, _ = found.repetitions()[0]
        columns = pd.DataFrame(question.kind.columns(question.task, scores))
        tables.append(pd.concat([table, columns], axis=1))
    return pd.concat(tables, ignore_index=True)
