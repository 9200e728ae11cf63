"""What a score is worth beside: plain models fitted on the same training subjects.

Everything is fitted on train and asked of the split that is evaluated. Penalties of linear models
are chosen by cross-validation over the people of train and val, epochs of networks on val. Answers
are kept in ``<cohort>/baselines/`` under a hash of the scans, labels, covariates and code behind
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fmrilm.cohort.checksums import read_checksums
from fmrilm.cohort.splits import EVERYONE
from fmrilm.errors import InputError
from fmrilm.evaluation.baselines.covariates import design, known_covariates
from fmrilm.evaluation.baselines.features import SHORT, extract, square
from fmrilm.evaluation.baselines.linear import KINDS as LINEAR_KINDS
from fmrilm.evaluation.baselines.linear import LinearBaseline, LinearValues, Pair
from fmrilm.evaluation.baselines.neural import fit_predict
from fmrilm.evaluation.baselines.span import Span
from fmrilm.evaluation.baselines.tangent import TangentSpace
from fmrilm.evaluation.questions import Question, select
from fmrilm.evaluation.verdict import READERS, SUMMARY_READER
from fmrilm.files import write_arrays
from fmrilm.hashing import digest, hash_code
from fmrilm.readers import read_arrays
from fmrilm.stats.intervals import Answers
from fmrilm.stats.kinds import Kind

N_COMPONENTS = 50
N_FOLDS = 5  # of people, where everybody is asked
SPANNED = (*LINEAR_KINDS, "linear")  # kinds of model that read coordinates


@dataclass(frozen=True)
class Baseline:
    """One plain model: what it reads, and how it is fitted to classes and to numbers."""

    reads: str
    feature: str  # an entry of FEATURES, or "covariates" or "tangent"
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
    "fc_ridge": Baseline("FC", "fc", "ridge", "", "long"),
    "tangent": Baseline("tangent-space FC", "tangent", "logistic", "linear", "long"),
    "values": Baseline("window values", "values", "logistic", "linear", "short"),
    "region_means": Baseline("region means", "region_means", "logistic", "linear"),
    "fc_svm": Baseline("FC", "fc", "svm", "", "long"),
    "values_svm": Baseline("window values", "values", "svm", "", "short"),
    "pca": Baseline("PCA of the series", "values", "pca", "pca"),
    "mean_mlp": Baseline("mean-MLP", "series", "mean_mlp", "mean_mlp"),
    "brainnet": Baseline("BrainNetCNN, small", "fc", "brainnet", "brainnet", "long"),
}
STANDARD = ("covariates", "fc", "fc_ridge", "tangent", "values", "region_means")


def titles(kind: Kind) -> dict[str, str]:
    """Return the names of all baselines in a table of one kind of answer."""
    return {
        "majority": kind.uninformed_title,
        SUMMARY_READER: f"its own summary + {MODEL_TITLES[kind.plain]}",
        READERS: "its own readers",
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


def left_out(question: Question, length: int, which: str = "standard") -> dict[str, str]:
    """Return why a baseline that was asked for is not in the table, by name.

    Parameters are those of :func:`choose`.
    """
    chosen = choose(question, length, which)
    reasons = {}
    for name in choose(question, SHORT, which):  # as if every scan were long enough
        if name not in chosen:
            reasons[name] = f"{length} time points are too few for connectivity ({SHORT} needed)"
    return reasons


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
        Whose split is scored; train and val are taken from the same cohort. Where everybody is
        asked (split ``all``), each is answered by models of other people, in five folds.
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
    found = cross_fitted(question, lambda part: _scores(part, length, which, say))
    if question.split == EVERYONE:  # a guess that differs between folds scores below chance
        guess = question.kind.uninformed(question.task, question.labels, len(question.rows))
        found["majority"] = guess
    return {name: question.kind.answers(scores) for name, scores in found.items()}


def cross_fitted(
    question: Question, fit: Callable[[Question], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the scores of models fitted on other people than they are asked about, by name.

    Parameters
    ----------
    question : Question
        Of one split: models are fitted on train and val. Of everybody: as often as there are folds.
    fit : callable
        Question -> scores of its scans, by name; it selects train and val of the question's cohort.
    """
    if question.split != EVERYONE:
        return fit(question)
    whole: dict[str, np.ndarray] = {}
    for cohort in question.cohort.refolded(N_FOLDS, question.rows, question.task.column):
        part = select(cohort, question.task, "test")
        places = np.searchsorted(question.rows, part.rows)
        for name, scores in fit(part).items():
            shape = (len(question.rows), *scores.shape[1:])
            whole.setdefault(name, np.full(shape, np.nan, scores.dtype))[places] = scores
    return whole


def _scores(
    question: Question, length: int, which: str, say: Callable[[str], None]
) -> dict[str, np.ndarray]:
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
    return {"majority": guess, **{name: cached[name] for name in names}}


def fit_baselines(
    names: Sequence[str], train: Question, val: Question, asked: Question, length: int
) -> dict[str, np.ndarray]:
    """Return the scores (n, C) of each named baseline for the scans of ``asked``."""
    parts = (train, val, asked)
    labels, subjects = (train.labels, val.labels), (train.subjects, val.subjects)
    wanted = {BASELINES[name].feature for name in names}
    # Covariances are read apart from the rest, so that both need not be in memory.
    passes = [wanted - {"covariates", "tangent"}, wanted & {"tangent"}, wanted & {"covariates"}]
    found = {}
    for together in filter(None, passes):
        features = read_features(sorted(together), parts, length)
        for feature in together:
            values = features.pop(feature)
            of_feature = {n: BASELINES[n].model(asked.kind) for n in names}
            of_feature = {n: m for n, m in of_feature.items() if BASELINES[n].feature == feature}
            coordinates = None
            for name, model in of_feature.items():
                n_classes = len(asked.task.classes) or None
                if model in SPANNED:
                    coordinates = coordinates or project(values)
                    found[name] = fit_linear(model, coordinates, labels, n_classes, subjects)
                else:
                    found[name] = fit_one(model, values, labels, n_classes, subjects)
    return {name: found[name] for name in names}


def read_features(
    names: Sequence[str], parts: Sequence[Question], length: int
) -> dict[str, list[np.ndarray]]:
    """Return features of the scans of train, val and the asked question, by name.

    What has to be learned for them (a reference of covariances, the values of a covariate) is
    learned from the first part.
    """
    if "covariates" in names:
        columns = known_covariates(parts[-1])
        return {"covariates": [design(part, columns, parts[0].rows) for part in parts]}
    stored = ["covariance" if name == "tangent" else name for name in names]
    found = [extract(part.cohort, part.rows, length, stored) for part in parts]
    features = {name: [part.pop(name) for part in found] for name in stored}
    if "tangent" in names:
        covariances = features.pop("covariance")
        space = TangentSpace().fit(covariances[0])
        features["tangent"] = [space.transform(part) for part in covariances]
    return features


def project(features: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return features of train, val and the asked scans as coordinates that linear models read."""
    span = Span().fit(*features[:2])
    return [span.transform(part) for part in features]


def fit_linear(
    kind: str,
    coordinates: Sequence[np.ndarray],
    labels: Pair,
    n_classes: int | None,
    subjects: Pair | None = None,
) -> np.ndarray:
    """Return what a linear model says of the third set of coordinates; see :func:`fit_one`."""
    inputs = (coordinates[0], coordinates[1])
    if n_classes is None:
        return LinearValues().fit(inputs, labels, subjects).predict(coordinates[2])[:, None]
    model = LinearBaseline(kind).fit(inputs, labels, subjects)
    return model.predict_proba(coordinates[2], n_classes)


def read_summary(question: Question, components: Callable[[np.ndarray], np.ndarray]) -> Answers:
    """Return the answers of a linear model of what a model's summary tokens are made of.

    Strong components stay strong, as the model is shown them: they are not standardised.

    Parameters
    ----------
    question : Question
    components : callable
        Rows of scans -> components (n, C).
    """
    found = cross_fitted(question, lambda part: {"": _summary_scores(part, components)})
    return question.kind.answers(found[""])


def _summary_scores(
    question: Question, components: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    train, val = (select(question.cohort, question.task, split) for split in ("train", "val"))
    parts = [components(part.rows).astype(float) for part in (train, val, question)]
    size = max(float(np.sqrt((parts[0] ** 2).sum(axis=1).mean())), 1e-12)
    kind, n_classes = question.kind, len(question.task.classes) or None
    labels, subjects = (train.labels, val.labels), (train.subjects, val.subjects)
    return fit_linear(kind.plain, [x / size for x in parts], labels, n_classes, subjects)


def fit_one(
    kind: str,
    features: Sequence[np.ndarray],
    labels: Pair,
    n_classes: int | None,
    subjects: Pair | None = None,
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
    subjects : two ndarrays, optional
        Who the scans of train and val are of; None: each is of somebody else.
    """
    inputs, val_inputs, asked = features
    if kind == "pca":
        from sklearn.decomposition import PCA

        inputs, val_inputs, asked = (np.nan_to_num(x) for x in features)
        count = min(N_COMPONENTS, *inputs.shape)
        pca = PCA(count, svd_solver="randomized", random_state=0).fit(inputs)
        inputs, val_inputs, asked = (pca.transform(x) for x in (inputs, val_inputs, asked))
    if kind in (*SPANNED, "pca"):
        kind = "logistic" if kind == "pca" else kind
        coordinates = project((inputs, val_inputs, asked))
        return fit_linear(kind, coordinates, labels, n_classes, subjects)
    if kind == "brainnet":
        inputs, val_inputs, asked = (square(x) for x in (inputs, val_inputs, asked))
    return fit_predict(kind, (inputs, labels[0]), (val_inputs, labels[1]), asked, n_classes)


def _cache_path(question: Question, train: Question, val: Question, length: int) -> Path | None:
    """Return where the answers are kept; None if nothing can be kept of the cohort."""
    if question.cohort.state is None:
        return None
    folder = question.cohort.writable("answers of baselines")
    scans = read_checksums(question.cohort.store)
    code = hash_code("fmrilm.evaluation", "fmrilm.stats")
    about = [code, question.cohort.scaling_fingerprint(), str(length)]
    about += [repr((question.task.column, question.task.candidates))]
    for part in (train, val, question):
        columns = ["subject_id", *known_covariates(part)]
        about += [scans[row] for row in part.rows]
        about += [repr(part.labels.tolist())]
        about += [part.cohort.table[columns].iloc[part.rows].to_csv(index=False)]
    name = f"{question.task.name}_{question.split}_{digest(*about)}.npz"
    return folder / "baselines" / name


def _read(path: Path | None) -> dict[str, np.ndarray]:
    if path is None or not path.is_file():
        return {}
    return read_arrays(path, remedy="delete it, it is made again")


def _write(path: Path | None, answers: dict[str, np.ndarray]) -> None:
    if path is None:
        return
    path.parent.mkdir(exist_ok=True)
    write_arrays(path, answers)
