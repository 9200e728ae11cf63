import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from evaluation_helpers import make_run
from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.evaluation.runs import Run
from fmrilm.sklearn import (
    FMRILMClassifier,
    FMRILMRegressor,
    FMRILMTransformer,
    SeenWarning,
)
from small import POINTS, ROIS

ESTIMATORS = [FMRILMTransformer, FMRILMClassifier, FMRILMRegressor]
# The checks make up data of a few features, which no run reads: here they are folded into scans
# of the run's size, and a stand-in takes the place of its model. Left out are:
SIZE = "the number of features is that of the run, whatever the check gave"
EXCLUDED = {
    "check_n_features_in": SIZE,
    "check_n_features_in_after_fitting": SIZE,
    "check_transformer_general": SIZE,
    "check_classifiers_train": SIZE,
    "check_regressors_train": SIZE,
    "check_methods_sample_order_invariance": "the model computes in single precision, by batch",
    "check_methods_subset_invariance": "the model computes in single precision, by batch",
}


class StandIn:
    device = "cpu"
    tokenizer = SimpleNamespace(token_mask=lambda mask: mask)

    def features(self, fmri, roi_mask):
        return torch.stack([fmri.mean(2), fmri.std(2), fmri[:, :, 0]], 2)


@pytest.fixture
def folding(monkeypatch, tmp_path, planted):
    def fold(transformer, scans):
        if scans.ndim == 1:
            raise ValueError("Expected 2D array, got 1D array instead. Reshape your data.")
        return np.resize(scans, (len(scans), *transformer.shape_))

    monkeypatch.setattr(FMRILMTransformer, "_folded", fold)
    monkeypatch.setattr(Run, "load_model", lambda run, *_: StandIn())
    return make_run(tmp_path / "run", planted)


def _scans(n=48, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.resize([0, 1], n)
    series = rng.normal(size=(n, ROIS, POINTS)).astype(np.float32)
    series[:, : ROIS // 2] += 2.0 * labels[:, None, None]
    return series, labels


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_checks_of_scikit_learn_pass_but_for_those_named(kind, folding):
    found = check_estimator(kind(folding), expected_failed_checks=EXCLUDED, on_skip=None)
    passed = [one["check_name"] for one in found if one["status"] == "passed"]
    assert len(passed) > 35
    failed = {one["check_name"] for one in found if one["status"] == "xfail"}
    assert {"check_n_features_in"} <= failed <= set(EXCLUDED)


def test_folded_and_flat_scans_give_the_same_vectors(runs):
    series, _ = _scans(6)
    folded = FMRILMTransformer(runs["instruct"]).fit_transform(series)
    flat = FMRILMTransformer(runs["instruct"], batch_size=4).fit_transform(series.reshape(6, -1))
    assert folded.shape == (6, 16)
    assert flat == pytest.approx(folded, abs=1e-5)


def test_the_state_before_the_answer_depends_on_scan_and_question(runs):
    series, _ = _scans(4)
    found = {
        task: FMRILMTransformer(runs["instruct"], "answer", task).fit_transform(series)
        for task in ("sex", "stimulus")
    }
    assert found["sex"].shape == (4, 32)
    assert np.abs(found["sex"] - found["stimulus"]).max() > 1e-4
    assert np.ptp(found["sex"], axis=0).max() > 1e-4


def test_cross_validation_by_person_finds_the_effect_and_a_clone_is_not_fitted(runs):
    n = 120
    labels, people = np.repeat(np.resize([0, 1], n // 2), 2), np.repeat(np.arange(n // 2), 2)
    series = np.random.default_rng(1).normal(size=(n, ROIS, POINTS))
    series[:, : ROIS // 2] += 2.0 * labels[:, None, None]
    estimator = FMRILMClassifier(runs["instruct"])
    scores = cross_val_score(estimator, series, labels, groups=people, cv=GroupKFold(3))
    assert scores.mean() > 0.7  # 0.5 is chance, with a standard error of 0.05
    fitted = estimator.fit(series, labels)
    assert fitted.predict_proba(series).sum(axis=1) == pytest.approx(1)
    assert set(fitted.predict(series)) <= set(fitted.classes_)
    with pytest.raises(NotFittedError):
        clone(fitted).predict(series)


def test_regression_follows_a_value_that_is_in_the_scan(runs):
    series, _ = _scans()
    value = np.random.default_rng(2).normal(size=48)
    series = np.random.default_rng(3).normal(size=series.shape).astype(np.float32)
    series += value[:, None, None].astype(np.float32)
    found = FMRILMRegressor(runs["instruct"]).fit(series[:36], value[:36])
    assert np.corrcoef(found.predict(series[36:]), value[36:])[0, 1] > 0.7


def test_they_work_inside_a_pipeline(runs):
    series, labels = _scans(12)
    from sklearn.linear_model import LogisticRegression

    made = make_pipeline(FMRILMTransformer(runs["instruct"]), LogisticRegression())
    assert made.fit(series, labels).predict(series).shape == (12,)


def test_an_absent_region_is_not_read(runs):
    series, _ = _scans(2)
    series[:, 3] = np.nan
    transformer = FMRILMTransformer(runs["instruct"]).fit(series)
    missing = transformer.transform(series)
    series[:, 3] = 7.0  # constant
    assert np.isfinite(missing).all()
    assert transformer.transform(series) == pytest.approx(missing)


def test_wrong_shapes_and_names_are_one_sentence(runs):
    with pytest.raises(InputError, match="the run reads"):
        FMRILMTransformer(runs["instruct"]).fit(np.zeros((2, 5)))
    with pytest.raises(InputError, match="did you mean 'mean'"):
        FMRILMTransformer(runs["instruct"], pooling="meen").fit(_scans(2)[0])


def test_raw_series_are_scaled_as_the_run_was(runs, cohort_folder):
    cohort = Cohort(cohort_folder)
    rows = cohort.indices("test")[:3]
    raw = np.stack([cohort.store.read(int(row))[0] for row in rows])
    scaled = [cohort.scaler.transform(*cohort.store.read(int(row)), None) for row in rows]
    scaled = np.stack([np.where(mask[:, None], series, 0) for series, mask in scaled])
    plain = FMRILMTransformer(runs["instruct"]).fit(scaled).transform(scaled)
    own = FMRILMTransformer(runs["instruct"], scaling="run").fit(raw).transform(raw)
    assert own == pytest.approx(plain, abs=1e-4)
    with pytest.raises(InputError, match=r"unknown scaling 'runs' .did you mean 'run'"):
        FMRILMTransformer(runs["instruct"], scaling="runs").fit(raw)


def test_scans_that_the_run_has_seen_are_told(runs, cohort_folder):
    cohort = Cohort(cohort_folder)
    seen, new = cohort.indices("train")[:2], cohort.indices("test")[:2]
    scans = np.stack([cohort.store.read(int(row))[0] for row in (*seen, *new)])
    estimator = FMRILMTransformer(runs["instruct"], scaling="run").fit(scans)
    with pytest.warns(SeenWarning, match="trained or selected on 2 of these 4 scans"):
        estimator.transform(scans)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.transform(scans[2:])
