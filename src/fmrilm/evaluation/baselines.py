"""What a score is worth beside: plain models fitted on the same training subjects.

Everything is fitted on train, chosen on val and asked of the split that is evaluated. Answers are
kept in ``<cohort>/baselines/`` under a hash of the data, labels and split they depend on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fmrilm.errors import InputError
from fmrilm.evaluation.covariates import design, known_covariates
from fmrilm.evaluation.features import SHORT, extract, square
from fmrilm.evaluation.intervals import Answers
from fmrilm.evaluation.kinds import Kind
from fmrilm.evaluation.linear import KINDS as LINEAR_KINDS
from fmrilm.evaluation.linear import LinearBaseline, LinearValues
from fmrilm.evaluation.neural import fit_predict
from fmrilm.evaluation.questions import Question, select

VERSION = 4  # part of the cache key: raise it when a baseline changes
N_COMPONENTS = 50


@dataclass(frozen=True)
class Baseline:
    """One plain model: what it reads, and how it is fitted to classes and to numbers."""

    reads: str
    feature: str  # an entry of FEATURES, or "covariates"
    classes: str  # logistic | ridge | svm | pca | mean_mlp | brainnet
    values: str = ""  # linear | pca | mean_mlp | brainnet; empty: not for numbers
    lengths: str = "any"  # long: connectivity can be estimated; short: it cannot

    def model(self, kind: Kind) -> str:
        """Return how it is fitted to a kind of answer; empty if it is not."""
        return self.values if kind.is_number else self.classes

    def title(self, kind: Kind) -> str:
        """Return its name in a table."""
        model = self.model(kind)
        if model in ("mean_mlp", "brainnet"):
            return self.reads
        return f"{self.reads} + {MODEL_TITLES.get(model, MODEL_TITLES[kind.plain])}"


MODEL_TITLES = {"logistic": "logistic", "ridge": "ridge", "linear": "ridge", "svm": "linear SVM"}
BASELINES = {
    "covariates": Baseline("covariates", "covariates", "logistic", "linear"),
    "fc": Baseline("FC", "fc", "logistic", "linear", "long"),
    "values": Baseline("window values", "values", "logistic", "linear", "short"),
    "region_means": Baseline("region means", "region_means", "logistic", "linear"),
    "fc_ridge": Baseline("FC", "fc", "ridge", "", "long"),
    "fc_svm": Baseline("FC", "fc", "svm", "", "long"),
    "values_svm": Baseline("window values", "values", "svm", "", "short"),
    "pca": Baseline("PCA of the series", "values", "pca", "pca"),
    "mean_mlp": Baseline("mean-MLP", "series", "mean_mlp", "mean_mlp"),
    "brainnet": Baseline("BrainNetCNN, small", "fc", "brainnet", "brainnet", "long"),
}
STANDARD = ("covariates", "fc", "values", "region_means")


def titles(kind: Kind) -> dict[str, str]:
    """Return the names of all baselines in a table of one kind of answer."""
    return {
        "majority": kind.uninformed_title,
        **{name: one.title(kind) for name, one in BASELINES.items()},
    }


def choose(question: Question, length: int, which: str = "standard") -> list[str]:
    """Return the baselines that make sense for a question.

    Parameters
    ----------
    question : Question
    length : int
        Time points of a scan.
    which : str
        ``standard``, ``all``, ``none``, or comma-separated names.

    Raises
    ------
    InputError
        If a name is unknown.
    """
    named = {"standard": list(STANDARD), "all": list(BASELINES), "none": []}
    asked = named.get(which, [name.strip() for name in which.split(",")])
    for name in asked:
        if name not in BASELINES:
            raise InputError(
                f"unknown baseline {name!r}; use standard, all, none or some of: "
                f"{', '.join(BASELINES)}"
            )
    fits = "short" if length < SHORT else "long"
    chosen = [
        name
        for name in asked
        if BASELINES[name].lengths in ("any", fits) and BASELINES[name].model(question.kind)
    ]
    if not known_covariates(question):
        chosen = [name for name in chosen if BASELINES[name].feature != "covariates"]
    return chosen


def baseline_answers(
    question: Question,
    length: int,
    which: str = "standard",
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Answers]:
    """Return the answers of the baselines to ``question``, by name; ``majority`` is always there.

    For a number ``majority`` is the mean of the training scans.

    Parameters
    ----------
    question : Question
        Whose split is scored; train and val are taken from the same cohort.
    length : int
        Time points of a scan that are read, as the model does.
    which : str
        See :func:`choose`.
    say : callable
        Told what is being fitted.

    Raises
    ------
    InputError
        If train or val is empty, or all training labels are the same.
    """
    train = select(question.cohort, question.task, "train")
    if len(np.unique(train.labels)) < 2:
        raise InputError(
            f"{question.cohort.name}: all training scans have the same {question.task.column!r}, "
            "no baseline can be fitted"
        )
    val = select(question.cohort, question.task, "val")
    kind = question.kind
    guess = kind.uninformed(question.task, train.labels, len(question.rows))
    length = min(length, question.cohort.store.shape(int(question.rows[0]))[1])
    names = choose(question, length, which)
    path = _cache_path(question, train, val, length)
    cached = _read(path)
    missing = [name for name in names if name not in cached]
    if missing:
        say(f"baselines of {question.cohort.name} · {question.task.name}")
        cached.update(fit_baselines(missing, train, val, question, length))
        _write(path, cached)
    scores = {"majority": guess, **{name: cached[name] for name in names}}
    return {name: kind.answers(found) for name, found in scores.items()}


def fit_baselines(
    names: Sequence[str], train: Question, val: Question, asked: Question, length: int
) -> dict[str, np.ndarray]:
    """Return the scores (n, C) of each named baseline for the scans of ``asked``."""
    parts = (train, val, asked)
    wanted = sorted({BASELINES[name].feature for name in names} - {"covariates"})
    features = [extract(part.cohort, part.rows, length, wanted) for part in parts]
    if any(BASELINES[name].feature == "covariates" for name in names):
        columns = known_covariates(asked)
        for part, found in zip(parts, features, strict=True):
            found["covariates"] = design(part, columns, train.rows)
    return {
        name: fit_one(
            BASELINES[name].model(asked.kind),
            [found[BASELINES[name].feature] for found in features],
            (train.labels, val.labels),
            len(asked.task.classes) or None,
        )
        for name in names
    }


def fit_one(
    kind: str,
    features: Sequence[np.ndarray],
    labels: tuple[np.ndarray, np.ndarray],
    n_classes: int | None,
) -> np.ndarray:
    """Return class probabilities (n, C) of the third set of features, by one kind of model.

    Without classes predicted values (n, 1).

    Parameters
    ----------
    kind : str
        See :class:`Baseline`.
    features : three ndarrays
        Of train, val and the scans that are asked about; the first axis is the scans.
    labels : two ndarrays
        Of train and val.
    n_classes : int, optional
    """
    inputs, val_inputs, asked = features
    if kind == "pca":
        from sklearn.decomposition import PCA

        inputs, val_inputs, asked = (np.nan_to_num(x) for x in features)
        count = min(N_COMPONENTS, *inputs.shape)
        pca = PCA(count, svd_solver="randomized", random_state=0).fit(inputs)
        inputs, val_inputs, asked = (pca.transform(x) for x in (inputs, val_inputs, asked))
    if kind in (*LINEAR_KINDS, "linear", "pca"):
        if n_classes is None:
            values = LinearValues().fit(inputs, labels[0], val_inputs, labels[1])
            return values.predict(asked)[:, None]
        model = LinearBaseline("logistic" if kind == "pca" else kind)
        return model.fit(inputs, labels[0], val_inputs, labels[1]).predict_proba(asked, n_classes)
    if kind == "brainnet":
        inputs, val_inputs, asked = (square(x) for x in (inputs, val_inputs, asked))
    return fit_predict(kind, (inputs, labels[0]), (val_inputs, labels[1]), asked, n_classes)


def _cache_path(question: Question, train: Question, val: Question, length: int) -> Path | None:
    """Return where the answers are kept; None if the cohort folder cannot be written to."""
    folder = question.cohort.folder
    if not os.access(folder, os.W_OK):
        return None
    about = [VERSION, question.cohort.fingerprint(), question.cohort.scaler.norm, length]
    digest = hashlib.sha256(json.dumps(about).encode())
    for part in (train, val, question):
        digest.update(part.rows.astype(np.int64).tobytes())
        digest.update(part.labels.astype(np.float64).tobytes())
        columns = known_covariates(part)
        digest.update(part.cohort.table[columns].iloc[part.rows].to_csv(index=False).encode())
    name = f"{question.task.name}_{question.split}_{digest.hexdigest()[:16]}.npz"
    return folder / "baselines" / name


def _read(path: Path | None) -> dict[str, np.ndarray]:
    if path is None or not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as values:
        return {name: values[name] for name in values.files}


def _write(path: Path | None, answers: dict[str, np.ndarray]) -> None:
    if path is None:
        return
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.stem + ".partial.npz")
    np.savez(partial, **answers)  # type: ignore[arg-type]
    os.replace(partial, path)
