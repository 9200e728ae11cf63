import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from fmrilm.evaluation.baselines.tangent import TangentSpace, shrunk_covariance

UPPER = np.triu_indices(6)


def _scans(count, seed=0):
    rng = np.random.default_rng(seed)
    mixing = np.eye(6) + 0.4 * rng.normal(size=(6, 6))
    return [
        (mixing + 0.2 * rng.normal(size=(6, 6))) @ rng.normal(size=(6, 80)) for _ in range(count)
    ]


def _covariances(scans):
    return np.stack([shrunk_covariance(one, np.ones(6, bool)) for one in scans])


def test_the_covariance_is_ledoit_and_wolfs_of_scaled_regions():
    [scan] = _scans(1)
    scaled = (scan - scan.mean(1, keepdims=True)) / scan.std(1, keepdims=True)
    expected = LedoitWolf().fit(scaled.T).covariance_
    assert shrunk_covariance(scan, np.ones(6, bool)) == pytest.approx(expected[UPPER], abs=1e-6)


def test_an_unusable_region_is_uncorrelated_and_does_not_touch_the_others():
    [scan] = _scans(1)
    usable = np.array([True] * 5 + [False])
    found = shrunk_covariance(scan, usable)
    other = scan.copy()
    other[5] = 7.0
    assert (shrunk_covariance(other, usable) == found).all()
    assert (shrunk_covariance(other, np.ones(6, bool)) == found).all()
    row, column = UPPER
    assert (found[(column == 5) & (row < 5)] == 0).all()


def test_tangent_vectors_are_those_of_nilearn():
    connectome = pytest.importorskip("nilearn.connectome")
    train, asked = _scans(30), _scans(5, seed=1)
    scaled = [
        [(one - one.mean(1, keepdims=True)) / one.std(1, keepdims=True) for one in part]
        for part in (train, asked)
    ]
    measure = connectome.ConnectivityMeasure(LedoitWolf(), kind="tangent", standardize=False)
    measure.fit([one.T for one in scaled[0]])
    expected = measure.transform([one.T for one in scaled[1]])[:, UPPER[0], UPPER[1]]
    space = TangentSpace().fit(_covariances(train))
    # Of the reference nilearn takes (the geometric mean) they are the same, of ours nearly so.
    assert space.transform(_covariances(asked)) == pytest.approx(expected, abs=0.05)
    space.whitening_ = measure.whitening_
    assert space.transform(_covariances(asked)) == pytest.approx(expected, abs=1e-4)


def test_the_training_scans_lie_around_zero_and_nothing_is_learned_of_others():
    train = _covariances(_scans(30))
    space = TangentSpace().fit(train)
    assert np.abs(space.transform(train).mean(0)).max() < 0.05
    asked = _covariances(_scans(4, seed=1))
    assert space.transform(asked[:1])[0] == pytest.approx(space.transform(asked)[0])
