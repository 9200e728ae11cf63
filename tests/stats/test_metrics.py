import numpy as np
import pytest
from sklearn import metrics as sk

from fmrilm.stats.classification import (
    UNPARSED,
    auc,
    classification_metrics,
    confusion,
    ece,
    undefined_reason,
)


def _data(n_classes, n=60, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.resize(np.arange(n_classes), n))
    raw = rng.normal(size=(n, n_classes)) + 0.7 * np.eye(n_classes)[labels]
    if ties:
        raw = np.round(raw, 1)
    probabilities = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    return labels, probabilities, probabilities.argmax(1)


def _oracle(labels, probabilities, predicted, weights):
    """Every metric by scikit-learn, for one weighting."""
    n_classes = probabilities.shape[1]
    binary = n_classes == 2
    w = {"sample_weight": weights}
    hot = np.eye(n_classes)[labels]
    squares = (hot - probabilities) ** 2
    area = (
        sk.roc_auc_score(labels, probabilities[:, 1], **w)
        if binary
        else np.mean([sk.roc_auc_score(hot[:, c], probabilities[:, c], **w) for c in range(3)])
    )
    precision = (
        sk.average_precision_score(labels, probabilities[:, 1], **w)
        if binary
        else sk.average_precision_score(hot, probabilities, **w)
    )
    found = {
        "auc": area,
        "pr_auc": precision,
        "accuracy": sk.accuracy_score(labels, predicted, **w),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted, **w),
        "f1": sk.f1_score(labels, predicted, average="binary" if binary else "macro", **w),
        "mcc": sk.matthews_corrcoef(labels, predicted, **w),
        "brier": np.average(squares[:, 1] if binary else squares.sum(1), weights=weights),
        "log_loss": sk.log_loss(labels, probabilities, **w),
    }
    if binary:
        found["sensitivity"] = sk.recall_score(labels, predicted, **w)
        found["specificity"] = sk.recall_score(labels, predicted, pos_label=0, **w)
    return found


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_every_metric_agrees_with_scikit_learn_for_every_weighting(n_classes, seed):
    labels, probabilities, predicted = _data(n_classes, seed=seed)
    rng = np.random.default_rng(seed)
    weights = np.vstack([np.ones(60), rng.integers(0, 4, size=(3, 60))]).astype(float)
    found = {
        name: metric(labels, probabilities, predicted, weights)
        for name, metric in classification_metrics(n_classes).items()
    }
    for row in range(4):
        expected = _oracle(labels, probabilities, predicted, weights[row])
        assert set(found) == {*expected, "ece"}
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=1e-9), name


def test_ece_of_a_calibrated_and_of_an_overconfident_predictor():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=200_000)
    labels = (rng.uniform(size=len(p)) < p).astype(int)
    ones = np.ones((1, len(p)))
    calibrated = np.stack([1 - p, p], axis=1)
    assert ece(labels, calibrated, calibrated.argmax(1), ones)[0] < 0.01
    sure = np.stack([p < 0.5, p >= 0.5], axis=1).astype(float)  # right in 75% of the cases
    assert ece(labels, sure, sure.argmax(1), ones)[0] == pytest.approx(0.25, abs=0.01)


def test_a_missing_class_gives_nan_with_the_reason_and_never_zero():
    labels = np.zeros(10, dtype=int)
    probabilities = np.full((10, 2), 0.5)
    ones = np.ones((1, 10))
    for name, metric in classification_metrics(2).items():
        value = metric(labels, probabilities, np.zeros(10, dtype=int), ones)[0]
        reason = undefined_reason(name, labels, ["Male", "Female"])
        assert np.isnan(value) == bool(reason), name
        assert ("Female" in reason) or not reason
    assert undefined_reason("auc", labels, ["Male", "Female"])
    assert undefined_reason("accuracy", labels, ["Male", "Female"]) == ""


def test_a_constant_predictor_has_auc_one_half():
    labels = np.array([0, 1, 0, 1, 1])
    constant = np.full((5, 2), 0.5)
    assert auc(labels, constant, constant.argmax(1), np.ones((1, 5)))[0] == 0.5


def test_an_unparsed_answer_is_wrong_and_belongs_to_no_class():
    labels = np.array([0, 0, 1, 1])
    predicted = np.array([0, UNPARSED, 1, UNPARSED])
    ones = np.ones((1, 4))
    table = confusion(labels, predicted, ones, 2)[0]
    assert table.tolist() == [[1, 0, 1], [0, 1, 1]]
    probabilities = np.eye(2)[labels]
    scores = {
        name: metric(labels, probabilities, predicted, ones)[0]
        for name, metric in classification_metrics(2).items()
    }
    assert scores["accuracy"] == scores["balanced_accuracy"] == scores["sensitivity"] == 0.5
    assert scores["f1"] == pytest.approx(2 / 3)  # precision 1, recall one half
