"""One question answered by the model, its baselines and its controls, and compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fmrilm.config import Config
from fmrilm.evaluation import baselines, controls
from fmrilm.evaluation.intervals import Answers, differences, estimates, score_samples
from fmrilm.evaluation.metrics import PRIMARY, UNPARSED, classification_metrics
from fmrilm.evaluation.questions import Question, prompts_for
from fmrilm.evaluation.results import (
    BASELINE,
    CONTROL,
    MODEL,
    Predictor,
    TaskResult,
    probability_columns,
)
from fmrilm.evaluation.scoring import Scorer
from fmrilm.evaluation.scrutiny import scrutinise
from fmrilm.evaluation.significance import paired_test
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
    scrutiny: bool = True  # calibration and confounds
    n_resamples: int = 2000
    seed: int = 0

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
    task, prompts = question.task, prompts_for(question, config)

    scores = scorer.probabilities(question.rows, prompts, task.candidates, advance=advance)
    texts = [""] * len(question.rows)
    parsed = np.full(len(question.rows), UNPARSED)
    if settings.free_text:
        texts = scorer.texts(question.rows, prompts, advance=advance)
        found = [task.parse(text) for text in texts]
        parsed = np.array([UNPARSED if value is None else value for value in found])
    predicted = scores.argmax(axis=1) if settings.use_allowed_tokens else parsed
    answers = {
        "model": Answers(scores, predicted),
        **baselines.baseline_answers(question, scorer.num_timestamp, settings.baselines, say),
        **_controls(question, config, prompts, scorer, settings, advance),
    }
    predictors = compare(answers, question, settings)
    gains = {name: predictors[name].difference[PRIMARY] for name in settings.control_names}
    scrutiny = {}
    if settings.scrutiny:
        wordings = settings.controls == "all"
        scrutiny = scrutinise(question, scores, config, scorer, wordings, say)
    cohort = question.cohort
    return TaskResult(
        cohort=cohort.name,
        synthetic=cohort.info.synthetic,
        source=cohort.info.source,
        task=task.name,
        candidates=task.candidates,
        split=question.split,
        n_scans=len(question.rows),
        n_subjects=question.n_subjects,
        n_missing=question.n_missing,
        class_counts=question.class_counts,
        predictors=predictors,
        verdict=controls.verdict(gains),
        free_text=_free_text(parsed, question.labels) if settings.free_text else None,
        chance=max(question.class_counts.values()) / len(question.rows),
        scrutiny=scrutiny,
        predictions=_rows(question, answers["model"], texts, parsed),
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
    candidates, rows = question.task.candidates, question.rows
    # Where all are asked the same, a shuffled scan has been scored already: ten shuffles are free.
    n_shuffles = controls.N_SHUFFLES if len(set(prompts)) == 1 else 1
    sources = [
        controls.shuffle_scans(question.subjects, question.sites, settings.seed + repeat)
        for repeat in range(n_shuffles)
    ]
    found = {}
    for name in settings.control_names:
        if name == "shuffled":
            shuffled = [scorer.probabilities(rows[s], prompts, candidates) for s in sources]
            found[name] = Answers(np.stack(shuffled))
            continue
        asked, kind = prompts, name
        if name == "sentence":
            sentence = question.cohort.info.description
            asked, kind = [build_prompt(question.task, 0, sentence)] * len(rows), "text_only"
        found[name] = Answers(scorer.probabilities(rows, asked, candidates, kind, advance))
    return found


def compare(
    answers: dict[str, Answers], question: Question, settings: Settings
) -> dict[str, Predictor]:
    """Return the scores of every predictor, and how far the model's (``model``) are from them."""
    labels, subjects = question.labels, question.subjects
    classes = question.task.candidates
    samples = score_samples(
        answers,
        labels,
        subjects,
        classification_metrics(len(classes)),
        settings.n_resamples,
        settings.seed,
    )
    predictors = {}
    for name, answer in answers.items():
        is_model, is_control = name == "model", name in controls.TITLES
        test = None
        if not is_model and len(classes) == 2:
            first, second = (a.repetitions()[0][0][:, 1] for a in (answers["model"], answer))
            test = paired_test(labels == 1, first, second, subjects)
        difference = (
            {}
            if is_model
            else differences(samples["model"], samples[name], labels, subjects, classes)
        )
        predictors[name] = Predictor(
            MODEL if is_model else CONTROL if is_control else BASELINE,
            {"model": "fMRI-LM", **baselines.TITLES, **controls.TITLES}[name],
            estimates(samples[name], labels, subjects, classes),
            difference,
            float("nan") if test is None else test.p_value,
            "" if test is None else test.method,
        )
    return predictors


def _free_text(parsed: np.ndarray, labels: np.ndarray) -> dict[str, int]:
    read = parsed != UNPARSED
    return {
        "asked": len(parsed),
        "parsed": int(read.sum()),
        "unparsed": int((~read).sum()),
        "right": int((parsed == labels).sum()),
    }


def _identity(question: Question) -> pd.DataFrame:
    table = question.cohort.table.iloc[question.rows][["subject_id", "session_id", "split"]]
    table = table.reset_index(drop=True)
    table.insert(0, "cohort", question.cohort.name)
    table["task"] = question.task.name
    table["label"] = [question.task.classes[label] for label in question.labels]
    return table


def _rows(question: Question, model: Answers, texts: list[str], parsed: np.ndarray) -> pd.DataFrame:
    """Return one row per scan: label, probabilities, answer, free text and what it was read as."""
    names = question.task.candidates
    [(probabilities, predicted)] = model.repetitions()
    table = _identity(question)
    table["answer"] = [names[label] for label in question.labels]
    for index, column in enumerate(probability_columns(names)):
        table[column] = probabilities[:, index]
    table["predicted"] = [_word(names, index) for index in predicted]
    table["text"] = texts
    table["parsed"] = [_word(names, index) for index in parsed]
    return table


def _word(names: list[str], index: int) -> str:
    return "unparsed" if index == UNPARSED else names[index]


def _comparison(question: Question, answers: dict[str, Answers]) -> pd.DataFrame:
    """Return the probabilities of every other predictor, one row per scan and predictor."""
    tables = []
    for name, found in answers.items():
        if name == "model":
            continue
        table = _identity(question)
        table["predictor"] = name
        probabilities, _ = found.repetitions()[0]
        for index, column in enumerate(probability_columns(question.task.candidates)):
            table[column] = probabilities[:, index]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
