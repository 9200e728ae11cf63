"""What a score is worth beside: plain models fitted on the same training subjects.

Everything is fitted on train, chosen on val and asked of the split that is evaluated. Answers are
kept in ``<cohort>/baselines/`` under a hash of the data, labels and split they depend on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fmrilm.errors import InputError
from fmrilm.evaluation.features import extract, features_for
from fmrilm.evaluation.intervals import Answers
from fmrilm.evaluation.linear import LogisticBaseline
from fmrilm.evaluation.questions import Question, select

VERSION = 1  # part of the cache key: raise it when a baseline changes
TITLES = {
    "majority": "majority class",
    "fc": "FC + logistic",
    "region_means": "region means + logistic",
    "values": "window values + logistic",
}


def baseline_answers(
    question: Question, length: int, say: Callable[[str], None] = lambda text: None
) -> dict[str, Answers]:
    """Return the answers of every baseline to ``question``, by name.

    Parameters
    ----------
    question : Question
        Whose split is scored; train and val are taken from the same cohort.
    length : int
        Time points of a scan that are read, as the model does.
    say : callable
        Told what is being fitted.

    Raises
    ------
    InputError
        If train or val is empty, or train has scans of one class only.
    """
    train = select(question.cohort, question.task, "train")
    if len(np.unique(train.labels)) < 2:
        raise InputError(
            f"{question.cohort.name}: all training scans have the same {question.task.column!r}, "
            "no baseline can be fitted"
        )
    val = select(question.cohort, question.task, "val")
    n_classes = len(question.task.classes)
    shares = np.bincount(train.labels, minlength=n_classes) / len(train.labels)
    answers = {"majority": Answers(np.tile(shares, (len(question.rows), 1)))}
    n_timepoints = min(length, question.cohort.store.shape(int(question.rows[0]))[1])
    chosen = features_for(n_timepoints)
    path = _cache_path(question, train, val, n_timepoints, list(chosen))
    cached = _read(path)
    if cached is None:
        say(f"baselines of {question.cohort.name} · {question.task.name}")
        cached = _fit(question, train, val, n_timepoints)
        _write(path, cached)
    return {**answers, **{name: Answers(found) for name, found in cached.items()}}


def _fit(question: Question, train: Question, val: Question, length: int) -> dict[str, np.ndarray]:
    chosen = features_for(length)
    inputs = extract(train.cohort, train.rows, length, chosen)
    val_inputs = extract(val.cohort, val.rows, length, chosen)
    asked = extract(question.cohort, question.rows, length, chosen)
    found = {}
    for name in chosen:
        model = LogisticBaseline().fit(inputs[name], train.labels, val_inputs[name], val.labels)
        found[name] = model.predict_proba(asked[name], len(question.task.classes))
    return found


def _cache_path(
    question: Question, train: Question, val: Question, length: int, names: list[str]
) -> Path | None:
    """Return where the answers are kept; None if the cohort folder cannot be written to."""
    folder = question.cohort.folder
    if not os.access(folder, os.W_OK):
        return None
    about = [VERSION, question.cohort.fingerprint(), question.cohort.scaler.norm, length, names]
    digest = hashlib.sha256(json.dumps(about).encode())
    for part in (train, val, question):
        digest.update(np.concatenate([part.rows, part.labels]).astype(np.int64).tobytes())
    name = f"{question.task.name}_{question.split}_{digest.hexdigest()[:16]}.npz"
    return folder / "baselines" / name


def _read(path: Path | None) -> dict[str, np.ndarray] | None:
    if path is None or not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as values:
        return {name: values[name] for name in values.files}


def _write(path: Path | None, answers: dict[str, np.ndarray]) -> None:
    if path is None:
        return
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.stem + ".partial.npz")
    np.savez(partial, **answers)  # type: ignore[arg-type]
    os.replace(partial, path)
