"""Group ICA finds planted maps; time courses and their measures are right."""

import numpy as np
import pytest

from descriptors.builders import NETWORKS, make_scans
from fmrilm.descriptors.ica import ICA
from fmrilm.descriptors.measures.group_ica import (
    group_maps,
    label_components,
    mean_correlation,
    time_courses,
)
from fmrilm.descriptors.measures.networks import membership
from fmrilm.errors import InputError

EVERY = np.ones(30, bool)
SPARSE = [f"net{k}" for k in range(6) for _ in range(6)] + ["none"] * 30


def make_sparse_scans(n, seed=0):
    """Six small networks among regions of noise; a map of a fifth of all regions, as in the
    builder's scans, happens to have the kurtosis of a Gaussian, which ICA cannot find."""
    rng = np.random.default_rng(seed)
    scans = []
    for _ in range(n):
        scan = rng.normal(size=(66, 160))
        scan[:36] += np.repeat(1.5 * rng.normal(size=(6, 160)), 6, axis=0)
        scans.append(scan)
    return scans


def test_group_components_equal_pca_of_the_concatenated_scans():
    scans = make_scans(4)
    z = np.concatenate([(s - s.mean(1, keepdims=True)) / s.std(1, keepdims=True) for s in scans], 1)
    expected = np.linalg.svd(z, full_matrices=False)[0][:, :5]
    vectors = np.linalg.eigh(mean_correlation(scans, 30, 8))[1][:, ::-1][:, :5]
    np.testing.assert_allclose(np.abs(vectors.T @ expected), np.eye(5), atol=1e-6)


def test_planted_networks_come_back_as_components():
    maps = group_maps(mean_correlation(make_sparse_scans(30), 66, 8), 6)
    members = membership(SPARSE, np.ones(66, bool))[:6]
    found = np.abs(np.corrcoef(maps, members)[:6, 6:])
    assert found.max(axis=0).min() > 0.95
    assert sorted(label_components(maps, members)) == [[k] for k in range(6)]


def test_rotation_agrees_with_scikit_learn():
    from sklearn.decomposition import FastICA

    rng = np.random.default_rng(0)
    sources = rng.laplace(size=(4, 3000))
    mixed = rng.normal(size=(12, 4)) @ sources
    covariance = mixed.T[:30] @ mixed[:, :30]
    maps = group_maps(covariance, 3)
    basis = np.linalg.eigh(covariance)[1][:, ::-1][:, :3]
    reference = FastICA(
        3, fun="cube", random_state=0, whiten="unit-variance", tol=1e-6, max_iter=1000
    )
    expected = reference.fit_transform(basis).T
    agreement = np.abs(np.corrcoef(maps, expected)[:3, 3:])
    assert np.sort(agreement.max(axis=1)).min() > 0.95


def test_time_courses_equal_least_squares():
    scan = make_scans(1)[0]
    maps = np.random.default_rng(0).normal(size=(4, 30))
    z = (scan - scan.mean(1, keepdims=True)) / scan.std(1, keepdims=True)
    design = np.column_stack((maps.T, np.ones(30)))
    expected = (np.linalg.pinv(design) @ z)[:4]
    np.testing.assert_allclose(time_courses(scan, maps), expected, atol=1e-10)


def test_own_maps_are_used_and_checked():
    maps = membership(NETWORKS, EVERY)
    family = ICA(NETWORKS, maps=maps).fit(make_scans(4))
    np.testing.assert_array_equal(family.maps_, maps)
    with pytest.raises(InputError, match="do not fit 30 regions"):
        ICA(NETWORKS, maps=maps[:, :7]).fit(make_scans(4))


def test_every_network_gets_a_component():
    maps = np.vstack([membership(NETWORKS, EVERY)[:2]] * 2) + 0.01 * np.arange(30)
    assert all(len(group) >= 1 for group in label_components(maps, membership(NETWORKS, EVERY)))


def test_a_slow_network_is_told_as_low_frequency():
    family = ICA(SPARSE, n_components=6).fit(make_sparse_scans(20))
    scan = make_sparse_scans(1, seed=4)[0]
    scan[6:12] += 6 * np.sin(2 * np.pi * 0.02 * 2.0 * np.arange(160))
    z = family.z_scores(family.transform([scan])).iloc[0]
    assert z["ica_falff__net1_z"] > 2
    assert z["ica_spectral_ratio__net1_z"] > 2
