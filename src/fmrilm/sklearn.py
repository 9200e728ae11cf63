"""scikit-learn estimators on the frozen features of a trained run.

They go where scikit-learn estimators go: pipelines, ``cross_val_score(..., groups=subjects)``,
``GridSearchCV``. The run itself is not trained further, and what it was trained on it has seen:
cross-validate on people the run was not trained on.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d

from fmrilm.cohort.scaling import Scaler
from fmrilm.errors import InputError
from fmrilm.evaluation.runs import open_run
from fmrilm.evaluation.tokenizer.embedding import POOLINGS, embed_batch
from fmrilm.lineage.fingerprints import Fingerprints, match
from fmrilm.lineage.trained_on import read_states
from fmrilm.processing.processor import FMRIProcessor
from fmrilm.registry import suggest
from fmrilm.tasks import SCAN, TASKS, build_prompt

SCALINGS = ("none", "run")


@lru_cache(maxsize=2)
def _load(folder: str, state: tuple[int, ...], device: str) -> Any:
    """The model of a run; loaded again only if its files changed (``state``)."""
    return open_run(folder).load_model(device, "float32")


def _state_of(folder: Path) -> tuple[str, tuple[int, ...]]:
    about = [path.stat() for path in sorted((folder / "model").rglob("*.safetensors"))]
    return str(folder.resolve()), tuple(n for a in about for n in (a.st_mtime_ns, a.st_size))


class SeenWarning(UserWarning):
    """Scans that a run was trained or selected on are scored."""


class _TakesScans(BaseEstimator):
    """Says to scikit-learn that scans (n, R, T) with absent regions are taken."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True  # a region that holds NaN is absent
        tags.input_tags.three_d_array = True
        return tags


class FMRILMTransformer(TransformerMixin, _TakesScans):
    """From scans to one vector each, by the frozen model of a run.

    Parameters
    ----------
    run : path
        Run folder of stage align or instruct.
    pooling : str
        ``mean``: the encoder's features averaged over tokens; ``answer``: the language model's
        state where the answer to ``task`` begins.
    task : str, optional
        Which question is asked with ``answer``; None: none, only the scan is shown.
    batch_size : int
    device : str
        ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ...
    scaling : str
        ``none``: the series are scaled already; ``run``: they are as `fmrilm prepare` leaves them,
        and are scaled as the scans of the run's first training cohort were.

    Attributes
    ----------
    n_features_in_ : int
        Regions times time points.

    Examples
    --------
    >>> vectors = FMRILMTransformer("runs/instruct").fit_transform(series)  # (n, R, T) -> (n, D)
    """

    def __init__(
        self,
        run: str | Path = "",
        pooling: str = "mean",
        task: str | None = None,
        batch_size: int = 32,
        device: str = "auto",
        scaling: str = "none",
    ) -> None:
        self.run = run
        self.pooling = pooling
        self.task = task
        self.batch_size = batch_size
        self.device = device
        self.scaling = scaling

    def fit(self, X: np.ndarray, y: Any = None) -> FMRILMTransformer:
        """Load the model and check that the scans fit it; nothing is learned from them.

        A run is loaded once per process, however often it is fitted: cross-validation and grid
        searches clone their estimators.
        """
        if self.pooling not in POOLINGS:
            raise InputError(
                f"unknown pooling {self.pooling!r}{suggest(self.pooling, list(POOLINGS))}; "
                f"one of: {', '.join(POOLINGS)}"
            )
        if self.scaling not in SCALINGS:
            raise InputError(
                f"unknown scaling {self.scaling!r}{suggest(self.scaling, list(SCALINGS))}; "
                f"one of: {', '.join(SCALINGS)}"
            )
        opened = open_run(self.run)
        opened.check_answers()
        self.scaler_ = None
        if self.scaling == "run":
            recipe = FMRIProcessor.from_pretrained(opened.folder).recipe()[1]
            self.scaler_ = Scaler.from_dict(recipe.scaling)
        self.seen_ = list((read_states(opened.folder) or {}).values())
        vq = opened.config.model.vq_model
        self.shape_ = (vq.num_rois, vq.num_timestamp)
        self._check(X)
        self.n_features_in_ = vq.num_rois * vq.num_timestamp
        self.prompt_ = SCAN if self.task is None else build_prompt(TASKS[self.task])
        self.model_ = _load(*_state_of(opened.folder), self.device)
        return self

    def _check(self, X: np.ndarray) -> np.ndarray:
        """Return scans of shape (n, R, T); rows of R * T values are folded."""
        scans = check_array(
            X,
            dtype=np.float32,
            ensure_2d=False,
            allow_nd=True,
            ensure_all_finite="allow-nan",
            input_name="X",
            estimator=self,
        )
        return self._folded(scans)

    def _folded(self, scans: np.ndarray) -> np.ndarray:
        rois, times = self.shape_
        if scans.ndim == 2 and scans.shape[1] == rois * times:
            return scans.reshape(len(scans), rois, times)
        if scans.ndim != 3 or scans.shape[1:] != self.shape_:
            raise InputError(
                f"scans have shape {scans.shape}, the run reads (n, {rois}, {times}) or rows of "
                f"{rois * times} values"
            )
        return scans

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return one vector per scan, shape (n, D).

        Parameters
        ----------
        X : ndarray, shape (n, R, T) or (n, R * T)
            Series, scaled unless ``scaling`` is ``run``. Regions that are constant or hold NaN
            count as absent.

        Warns
        -----
        SeenWarning
            If the run was trained or selected on some of the scans.
        """
        check_is_fitted(self, "model_")
        import torch

        scans = self._check(X)
        usable = ~np.isnan(scans).any(axis=2)
        scans = np.where(usable[:, :, None], scans, 0)
        usable &= np.ptp(scans, axis=2) > 0
        self._warn_of_seen(np.where(usable[:, :, None], scans, np.float32(np.nan)))
        if self.scaler_ is not None:
            pairs = [self.scaler_.transform(*pair) for pair in zip(scans, usable, strict=True)]
            scans, usable = (np.stack(parts) for parts in zip(*pairs, strict=True))
            scans = np.where(usable[:, :, None], scans, 0).astype(np.float32)
        parts = [
            embed_batch(
                self.model_,
                torch.from_numpy(scans[start : start + self.batch_size]),
                torch.from_numpy(usable[start : start + self.batch_size]),
                self.prompt_,
                self.pooling,
            )
            for start in range(0, len(scans), self.batch_size)
        ]
        return np.concatenate(parts)

    def _warn_of_seen(self, scans: np.ndarray) -> None:
        """Warn of scans that are copies of those the run has seen, by their fingerprints."""
        if not self.seen_:
            return
        asked = Fingerprints.of_series(list(scans))
        known = {place for state in self.seen_ for place in match(state.seen, asked)}
        if known:
            warnings.warn(
                f"the run was trained or selected on {len(known)} of these {len(scans)} scans: "
                "what is said of them is no held-out result; take people it has not seen",
                SeenWarning,
                stacklevel=3,
            )


class _Probe(_TakesScans):
    """What classifier and regressor share: frozen features, scaled, and a linear model on them."""

    def __init__(
        self,
        run: str | Path = "",
        penalty: float = 1.0,
        pooling: str = "mean",
        task: str | None = None,
        batch_size: int = 32,
        device: str = "auto",
        scaling: str = "none",
    ) -> None:
        self.run = run
        self.penalty = penalty
        self.pooling = pooling
        self.task = task
        self.batch_size = batch_size
        self.device = device
        self.scaling = scaling

    def _linear(self) -> Any:
        raise NotImplementedError

    def _fit(self, X: np.ndarray, y: np.ndarray) -> None:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        features = FMRILMTransformer(
            self.run, self.pooling, self.task, self.batch_size, self.device, self.scaling
        )
        self.pipeline_ = make_pipeline(features, StandardScaler(), self._linear()).fit(X, y)
        self.n_features_in_ = features.n_features_in_

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return one prediction per scan, shape (n,)."""
        check_is_fitted(self, "pipeline_")
        return self.pipeline_.predict(X)


class FMRILMClassifier(ClassifierMixin, _Probe):
    """Logistic regression on the frozen features of a run.

    Parameters
    ----------
    run : path
        Run folder of stage align or instruct.
    penalty : float
        Of the weights; larger shrinks them more.
    pooling, task, batch_size, device
        See :class:`FMRILMTransformer`.
    """

    def _linear(self) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=1 / self.penalty, max_iter=2000)

    def fit(self, X: np.ndarray, y: np.ndarray) -> FMRILMClassifier:
        """Fit on scans (n, R, T) or (n, R * T) and their classes (n,)."""
        if y is not None:  # scikit-learn says what is wrong with none
            check_classification_targets(y)
        self._fit(X, y)
        self.classes_ = self.pipeline_.classes_
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (n, C), in the order of ``classes_``."""
        check_is_fitted(self, "pipeline_")
        return self.pipeline_.predict_proba(X)


class FMRILMRegressor(RegressorMixin, _Probe):
    """Ridge regression on the frozen features of a run; parameters as :class:`FMRILMClassifier`."""

    def _linear(self) -> Any:
        from sklearn.linear_model import Ridge

        return Ridge(alpha=self.penalty)

    def fit(self, X: np.ndarray, y: np.ndarray) -> FMRILMRegressor:
        """Fit on scans (n, R, T) or (n, R * T) and their values (n,)."""
        self._fit(X, y if y is None else column_or_1d(y, warn=True))
        return self
