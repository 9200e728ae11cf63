"""Gradients against BrainSpace, on real group connectivity, and their invariances."""

import importlib.metadata

import numpy as np
import pytest

from descriptors.builders import NETWORKS, make_scans
from fmrilm.atlases.atlas import Atlas
from fmrilm.descriptors.gradients import Gradients, mean_connectivity
from fmrilm.descriptors.measures.diffusion import (
    align,
    cosine_affinity,
    diffusion_map,
    sparsify_rows,
)


@pytest.fixture(scope="module")
def group_fc():
    """Mean connectivity of HCP subjects, Schaefer 400, and the network of each region."""
    try:
        files = importlib.metadata.files("brainspace")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("brainspace is not installed (its data are needed)")
    found = {item.name: item.locate() for item in files if "main_group" in str(item)}
    matrix = np.loadtxt(found["schaefer_400_mean_connectivity_matrix.csv"], delimiter=",")
    return matrix, np.array(Atlas.load("schaefer400_tianS3").networks[50:])


def embed(matrix, kept=0.1):
    return diffusion_map(cosine_affinity(matrix, kept))[0]


@pytest.mark.parametrize("which", ["group", "scan"])
def test_gradients_agree_with_brainspace(group_fc, which):
    pytest.importorskip("brainspace", reason="brainspace is not installed")
    from brainspace.gradient import GradientMaps

    matrix = group_fc[0]
    if which == "scan":
        rng = np.random.default_rng(0)
        root = np.linalg.cholesky(np.nan_to_num(matrix) * 0.5 + np.eye(400) * 0.6)
        matrix = np.corrcoef(root @ rng.normal(size=(400, 160)))
    reference = GradientMaps(n_components=3, approach="dm", kernel="cosine", random_state=0)
    reference.fit(matrix, sparsity=0.9)
    ours = align(embed(matrix), reference.gradients_)
    for k in range(3):
        assert abs(np.corrcoef(ours[:, k], reference.gradients_[:, k])[0, 1]) > 0.99
    values = diffusion_map(cosine_affinity(matrix))[1]
    np.testing.assert_allclose(values / (1 - values), reference.lambdas_, rtol=0.05)


def test_gradient_one_separates_sensory_from_transmodal_networks(group_fc):
    matrix, networks = group_fc
    first = embed(matrix)[:, 0]
    first *= np.sign(first[networks == "Default"].mean() - first[networks == "SomMot"].mean())
    means = {name: first[networks == name].mean() for name in np.unique(networks)}
    assert max(means, key=means.get) == "Default"
    assert set(sorted(means, key=means.get)[:2]) <= {"Vis", "SomMot", "SalVentAttn", "DorsAttn"}
    sensory = np.isin(networks, ("Vis", "SomMot"))
    default = networks == "Default"
    above = (first[default][:, None] > first[sensory][None]).mean()
    assert above > 0.95


def test_rows_keep_their_largest_share():
    matrix = np.random.default_rng(0).normal(size=(40, 40))
    kept = sparsify_rows(matrix, 0.1)
    expected = np.where(matrix >= np.percentile(matrix, 90, axis=1)[:, None], matrix, 0)
    np.testing.assert_array_equal(kept, expected)


def test_order_of_regions_does_not_matter():
    matrix = np.corrcoef(make_scans(1, n_timepoints=160)[0])
    order = np.random.default_rng(1).permutation(30)
    straight = embed(matrix, 0.3)
    shuffled = embed(matrix[np.ix_(order, order)], 0.3)
    np.testing.assert_allclose(np.abs(shuffled), np.abs(straight[order]), atol=1e-6)


def test_alignment_undoes_a_rotation_and_keeps_the_range():
    template = np.random.default_rng(0).normal(size=(50, 3))
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(align(2 * template @ rotation, template), 2 * template)


def test_separate_pieces_are_an_error():
    with pytest.raises(ValueError, match="not connected"):
        diffusion_map(np.kron(np.eye(2), np.ones((5, 5))))


def test_template_puts_default_above_sensory():
    rng = np.random.default_rng(3)
    scans = []
    for scan in make_scans(8, n_timepoints=160):
        shared = rng.normal(size=160)  # couples the sensory networks
        scan[:12] += 1.5 * shared
        scans.append(scan)
    family = Gradients(NETWORKS).fit(scans)
    labels = np.array(NETWORKS)
    first = family.template_[:, 0]
    assert first[labels == "Default"].mean() > first[np.isin(labels, ("Vis", "SomMot"))].mean()


def test_mean_connectivity_skips_what_is_missing():
    scans = make_scans(3)
    scans[0][4] = np.nan
    mean = mean_connectivity(scans, 30, 8)
    expected = np.tanh(np.mean([np.arctanh(np.corrcoef(s[[4, 5]])[0, 1]) for s in scans[1:]]))
    assert mean[4, 5] == pytest.approx(expected)
    for scan in scans:
        scan[4] = np.nan
    assert np.isnan(mean_connectivity(scans, 30, 8)[4]).all()


def test_a_rotation_within_ten_components_finds_what_changed_places():
    template = np.random.default_rng(0).normal(size=(60, 10))
    scan = template[:, [0, 1, 3, 2, *range(4, 10)]]  # the third and the fourth changed places
    np.testing.assert_allclose(align(scan, template), template)
    assert abs(align(scan[:, :3], template[:, :3]) - template[:, :3]).max() > 1
    scans = make_scans(4, n_timepoints=160)
    family = Gradients(NETWORKS).fit(scans)
    assert family.template_.shape == (30, 10)
    usable = np.ones(30, bool)
    assert family.embed_scan(scans[0], usable).shape == (30, 3)


def test_poles_are_named_or_the_gradient_is_not_told():
    scans = make_scans(8, n_timepoints=160)
    family = Gradients(NETWORKS).fit(scans)
    labels = np.array(NETWORKS)
    low, high = family.poles()[1]
    first = family.template_[:, 0]
    means = {name: first[labels == name].mean() for name in set(NETWORKS)}
    assert (low, high) == (min(means, key=means.get), max(means, key=means.get))
    (text,) = family.describe(scans[:1])
    assert text.startswith("Gradient 1 runs from ")
    order = np.arange(30).reshape(6, 5).T.ravel()  # every network lies all along it
    family.template_[:, 1] = np.sort(family.template_[:, 1])[order]
    assert 2 not in family.poles()
    (text,) = family.describe(scans[:1])
    assert "gradient 2" not in text.lower()
