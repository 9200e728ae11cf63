import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from fmrilm.stats.classification import UNPARSED, undefined_reason
from fmrilm.stats.regression import ORDINAL_METRICS, VALUE_METRICS, pearson, quadratic_kappa

ORACLES = {
    "r": lambda y, p: np.corrcoef(y, p)[0, 1],
    "mae": sklearn_metrics.mean_absolute_error,
    "rmse": sklearn_metrics.root_mean_squared_error,
    "r2": sklearn_metrics.r2_score,
    "spearman": lambda y, p: stats.spearmanr(y, p).statistic,
}


def _resampled(n, count=4, seed=0):
    """Weights of some resamples, and the positions that they stand for."""
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=count)
    return weights.astype(float), [np.repeat(np.arange(n), row) for row in weights]


@pytest.mark.parametrize("name", list(VALUE_METRICS))
def test_a_weighted_score_of_values_is_that_of_the_repeated_scans_in_scikit_learn(name):
    rng = np.random.default_rng(1)
    labels = rng.integers(20, 80, 50).astype(float)
    values = np.round(0.5 * labels + rng.normal(0, 10, 50))  # with ties
    weights, rows = _resampled(50)
    found = VALUE_METRICS[name](labels, values[:, None], values, weights)
    expected = [ORACLES[name](labels[row], values[row]) for row in rows]
    assert found == pytest.approx(expected, abs=1e-12)


def test_ordinal_scores_agree_with_scikit_learn_and_scipy():
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60)
    answers = scores.argmax(axis=1)
    weights, rows = _resampled(60)
    kappa = ORDINAL_METRICS["quadratic_kappa"](labels, scores, answers, weights)
    rho = ORDINAL_METRICS["spearman"](labels, scores, answers, weights)
    for k, row in enumerate(rows):
        a, b = labels[row], answers[row]
        assert kappa[k] == pytest.approx(
            sklearn_metrics.cohen_kappa_score(a, b, weights="quadratic")
        )
        assert rho[k] == pytest.approx(stats.spearmanr(a, (scores @ np.arange(3))[row]).statistic)


def test_an_unparsed_ordinal_answer_counts_as_the_farthest_class():
    labels, scores, ones = np.array([0, 1, 2, 2]), np.eye(3)[[0, 1, 2, 2]], np.ones((1, 4))
    unread = quadratic_kappa(labels, scores, np.array([0, 1, 2, UNPARSED]), ones)
    farthest = quadratic_kappa(labels, scores, np.array([0, 1, 2, 0]), ones)
    assert unread == farthest


def test_the_same_answer_for_all_has_correlation_zero_and_the_same_label_none():
    labels, ones = np.array([20.0, 30.0, 55.0]), np.ones((1, 3))
    same = np.full(3, 43.21)
    noise = same * (1 + 1e-8 * np.array([1, -1, 0]))  # of single precision
    assert pearson(labels, same[:, None], same, ones)[0] == 0.0
    assert pearson(labels, noise[:, None], noise, ones)[0] == 0.0
    assert np.isnan(pearson(same, labels[:, None], labels, ones)[0])
    assert "the same" in undefined_reason("r", same, [])
    assert undefined_reason("mae", same, []) == ""


@pytest.mark.parametrize("name", list(VALUE_METRICS))
def test_a_number_that_could_not_be_read_is_left_out_of_the_score_and_mapped_to_nothing(name):
    rng = np.random.default_rng(0)
    labels = rng.normal(50, 10, 40)
    predicted = labels + rng.normal(0, 5, 40)
    weights = rng.integers(0, 3, (7, 40)).astype(float)
    metric, read = VALUE_METRICS[name], np.arange(40) != 5
    unread = np.where(read, predicted, np.nan)
    expected = metric(labels[read], predicted[read, None], predicted[read], weights[:, read])
    found = metric(labels, unread[:, None], unread, weights)
    np.testing.assert_allclose(found, expected)
    assert (np.abs(found) > 0.1).all()
    assert np.isnan(metric(labels, unread[:, None], np.full(40, np.nan), weights)).all()
