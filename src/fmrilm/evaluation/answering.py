"""One question answered by the model, its baselines and its controls, and compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.cohort.splits import EVERYONE
from fmrilm.config.schema import Config
from fmrilm.evaluation import controls
from fmrilm.evaluation.baselines import baselines
from fmrilm.evaluation.options import EvaluationOptions
from fmrilm.evaluation.questions import Question, ask, prompts_for
from fmrilm.evaluation.results import BASELINE, CONTROL, MODEL, Predictor, TaskResult
from fmrilm.evaluation.scoring import Scorer
from fmrilm.evaluation.scrutiny.scrutiny import scrutinise
from fmrilm.evaluation.verdict import READERS, SUMMARY_READER, Prompt, verdict
from fmrilm.stats.classification import UNPARSED
from fmrilm.stats.intervals import Answers, differences, estimates, score_samples
from fmrilm.tasks import build_prompt


def answer_question(
    question: Question,
    config: Config,
    scorer: Scorer,
    options: EvaluationOptions,
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
    options : EvaluationOptions
    advance, say : callable
        Told how many scans are done, and what is being done.
    """
    task, kind, prompts = question.task, question.kind, prompts_for(question, config)

    scores = scorer.scores(ask(question, prompts, options.head), advance=advance)
    texts = [""] * len(question.rows)
    parsed = np.full(len(question.rows), kind.unparsed)
    if options.free_text:
        texts = scorer.texts(question.rows, prompts, advance=advance)
        parsed = np.array([kind.parse(task, text) for text in texts])
    answers = {
        "model": kind.answers(scores, None if options.use_allowed_tokens else parsed),
        **_baselines(question, scorer, options, say),
        **_controls(question, config, prompts, scorer, options, advance),
    }
    predictors = compare(answers, question, options)
    prompt = Prompt(len(set(prompts)) > 1, _summary_of(scorer))
    found: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    if options.scrutiny and question.split != EVERYONE:  # nobody is left to calibrate on
        wordings = options.controls == "all"
        found, columns = scrutinise(question, scores, config, scorer, options.head, wordings, say)
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
        verdict=verdict(predictors, kind, prompt),
        left_out=_left_out(question, scorer, options),
        free_text=_free_text(question, parsed) if options.free_text else None,
        answered_by=options.answered_by,
        scrutiny=found,
        caveat=cohort.info.caveat,
        predictions=_rows(question, answers["model"], texts, parsed, columns),
        compared=_comparison(question, answers),
    )


def _summary_of(scorer: Scorer) -> str:
    """Return what the model's summary tokens sum up; empty if it has none."""
    if scorer.summary is None:
        return ""
    what = "connectivity" if scorer.summary.of_connectivity else "the series"
    return f"{what} and signal families" if hasattr(scorer.summary, "evidence") else what


def _baselines(
    question: Question, scorer: Scorer, options: EvaluationOptions, say: Callable[[str], None]
) -> dict[str, Answers]:
    which = options.baselines
    found = baselines.baseline_answers(question, scorer.num_timestamp, which, say)
    if scorer.summary is not None and which in ("standard", "all"):
        found[SUMMARY_READER] = baselines.read_summary(question, scorer.components)
        evidence = scorer.evidence(question.rows, question.task)
        if evidence is not None:
            found[READERS] = question.kind.answers(evidence)
    return found


def _left_out(question: Question, scorer: Scorer, options: EvaluationOptions) -> dict[str, str]:
    """Return why rows that were asked for are not in the table, by title."""
    length = min(scorer.num_timestamp, question.cohort.store.shape(int(question.rows[0]))[1])
    reasons = baselines.left_out(question, length, options.baselines)
    if scorer.summary is None:
        without = "the model has no summary tokens"
        if options.baselines in ("standard", "all"):
            reasons[SUMMARY_READER] = without
        reasons[controls.TOKENS_SWAPPED] = f"{without}: it would be the shuffled scan"
        reasons[controls.SUMMARY_SWAPPED] = without
    names = {**baselines.titles(question.kind), **controls.TITLES}
    return {names[name]: reason for name, reason in reasons.items()}


def _controls(
    question: Question,
    config: Config,
    prompts: list[str],
    scorer: Scorer,
    options: EvaluationOptions,
    advance: Callable[[int], None],
) -> dict[str, Answers]:
    """Return the answers without the scan, or with another one, by name."""
    kind, rows = question.kind, question.rows
    # Where all are asked the same, a shuffled scan has been scored already: ten shuffles are free.
    n_shuffles = controls.N_SHUFFLES if len(set(prompts)) == 1 else 1
    sources = [
        controls.shuffle_scans(question.subjects, question.sites, options.seed + repeat)
        for repeat in range(n_shuffles)
    ]
    found = {}
    for name in options.control_names:
        if name == "shuffled":
            asked = ask(question, prompts, options.head)
            others = [scorer.scores(replace(asked, rows=rows[source])) for source in sources]
            found[name] = kind.answers(np.stack(others))
            continue
        if name in controls.SWAPS:
            if scorer.summary is None:
                advance(len(rows))
            else:
                found[name] = kind.answers(_swapped(name, question, prompts, scorer, options))
                advance(len(rows))
            continue
        told, way = prompts, name
        if name == "sentence":
            sentence = question.cohort.info.description
            told, way = [build_prompt(question.task, 0, sentence)] * len(rows), "text_only"
        scores = scorer.scores(ask(question, told, options.head), way, advance)
        found[name] = kind.answers(scores)
    return found


def _swapped(
    name: str, question: Question, prompts: list[str], scorer: Scorer, options: EvaluationOptions
) -> np.ndarray:
    """Return the scores (K, n, C) where the tokens, or the summary, are another person's."""
    asked, rows = ask(question, prompts, options.head), question.rows
    found = []
    for repeat in range(controls.n_swaps(len(rows))):
        others = controls.shuffle_scans(question.subjects, question.sites, options.seed + repeat)
        pair = (rows[others], rows) if name == controls.TOKENS_SWAPPED else (rows, rows[others])
        found.append(scorer.scores(replace(asked, rows=pair[0], summary_rows=pair[1])))
    return np.stack(found)


def compare(
    answers: dict[str, Answers], question: Question, options: EvaluationOptions
) -> dict[str, Predictor]:
    """Return the scores of every predictor, and how far the model's (``model``) are from them."""
    labels, subjects, kind = question.labels, question.subjects, question.kind
    classes = question.task.candidates
    metrics = kind.metrics(question.task)
    samples = score_samples(answers, labels, subjects, metrics)
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
            test.smallest_p,
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
