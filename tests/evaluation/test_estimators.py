import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

from fmrilm.errors import InputError
from fmrilm.evaluation.estimators import FMRILMClassifier, FMRILMRegressor, FMRILMTransformer
from small import POINTS, ROIS

ESTIMATORS = [FMRILMTransformer, FMRILMClassifier, FMRILMRegressor]
# The input shape is that of the run, so the checks that make up their own data do not apply.
CHECKS = [
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_set_params,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
]


def _scans(n=48, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.resize([0, 1], n)
    series = rng.normal(size=(n, ROIS, POINTS)).astype(np.float32)
    series[:, : ROIS // 2] += 2.0 * labels[:, None, None]
    return series, labels


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("check", CHECKS)
def test_scikit_learn_conventions_hold(kind, check):
    check(kind.__name__, kind())


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
        for task in ("sex", "heat")
    }
    assert found["sex"].shape == (4, 32)
    assert np.abs(found["sex"] - found["heat"]).max() > 1e-4
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
