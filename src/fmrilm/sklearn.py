"""scikit-learn estimators on the frozen features of a trained run.

They go where scikit-learn estimators go: pipelines, ``cross_val_score(..., groups=subjects)``,
``GridSearchCV``. The run itself is not trained further, and what it was trained on it has seen:
cross-validate on people the run was not trained on.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d

from fmrilm.errors import InputError
from fmrilm.evaluation.runs import open_run
from fmrilm.evaluation.tokenizer.embedding import POOLINGS, embed_batch
from fmrilm.registry import suggest
from fmrilm.tasks import SCAN, TASKS, build_prompt


@lru_cache(maxsize=2)
def _load(folder: str, state: tuple[int, ...], device: str) -> Any:
    """The model of a run; loaded again only if its files changed (``state``)."""
    return open_run(folder).load_model(device, "float32")


def _state_of(folder: Path) -> tuple[str, tuple[int, ...]]:
    about = [path.stat() for path in sorted((folder / "model").rglob("*.safetensors"))]
    return str(folder.resolve()), tuple(n for a in about for n in (a.st_mtime_ns, a.st_size))


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
    ) -> None:
        self.run = run
        self.pooling = pooling
        self.task = task
        self.batch_size = batch_size
        self.device = device

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
        opened = open_run(self.run)
        opened.check_answers()
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
            Scaled series. Regions that are constant or hold NaN count as absent.
        """
        check_is_fitted(self, "model_")
        import torch

        scans = self._check(X)
        usable = ~np.isnan(scans).any(axis=2)
        scans = np.where(usable[:, :, None], scans, 0)
        usable &= np.ptp(scans, axis=2) > 0
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
    ) -> None:
        self.run = run
        self.penalty = penalty
        self.pooling = pooling
        self.task = task
        self.batch_size = batch_size
        self.device = device

    def _linear(self) -> Any:
        raise NotImplementedError

    def _fit(self, X: np.ndarray, y: np.ndarray) -> None:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        features = FMRILMTransformer(
            self.run, self.pooling, self.task, self.batch_size, self.device
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
