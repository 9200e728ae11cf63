"""Graph measures against networkx and the Brain Connectivity Toolbox, on the same matrices."""

import networkx as nx
import numpy as np
import pytest

from descriptors.builders import NETWORKS, make_scans
from fmrilm.descriptors.graph import Graph
from fmrilm.descriptors.measures.communities import louvain, modularity
from fmrilm.descriptors.measures.graph import (
    binary_clustering,
    binary_efficiency,
    global_efficiency,
    participation,
    proportional_threshold,
    small_worldness,
    weighted_clustering,
)
from fmrilm.descriptors.measures.networks import membership


@pytest.fixture(scope="module")
def weights():
    scan = np.concatenate(make_scans(3, n_timepoints=90, seed=2))  # 90 regions
    return proportional_threshold(np.abs(np.corrcoef(scan)), 0.1)


@pytest.fixture(scope="module")
def graph(weights):
    graph = nx.from_numpy_array(weights)
    for *_, edge in graph.edges(data=True):
        edge["length"] = 1 / edge["weight"]
    return graph


@pytest.fixture(scope="module")
def bct():
    return pytest.importorskip("bct", reason="bctpy is not installed")


def test_threshold_keeps_exactly_the_strongest_share():
    matrix = np.abs(np.corrcoef(make_scans(1)[0]))
    kept = proportional_threshold(matrix, 0.2)
    upper = np.triu_indices(30, 1)
    assert (kept[upper] > 0).sum() == round(0.2 * 435)
    assert kept[upper][kept[upper] > 0].min() >= matrix[upper][kept[upper] == 0].max()
    np.testing.assert_array_equal(kept, kept.T)


def test_threshold_agrees_with_bct(bct):
    matrix = np.abs(np.corrcoef(make_scans(1)[0]))
    np.testing.assert_allclose(
        proportional_threshold(matrix, 0.2), bct.threshold_proportional(matrix, 0.2)
    )


def test_weighted_efficiency_agrees_with_networkx(weights, graph):
    lengths = dict(nx.all_pairs_dijkstra_path_length(graph, weight="length"))
    n = len(weights)
    inverse = sum(1 / d for i in lengths for j, d in lengths[i].items() if i != j)
    assert global_efficiency(weights) == pytest.approx(inverse / (n * (n - 1)), abs=1e-9)


def test_weighted_efficiency_agrees_with_bct(weights, bct):
    assert global_efficiency(weights) == pytest.approx(bct.efficiency_wei(weights), abs=1e-6)


def test_binary_efficiency_agrees_with_networkx(weights, graph):
    assert binary_efficiency(weights) == pytest.approx(nx.global_efficiency(graph), abs=1e-9)


def test_clustering_agrees_with_networkx(weights, graph):
    expected = list(nx.clustering(graph, weight="weight").values())
    np.testing.assert_allclose(weighted_clustering(weights), expected, atol=1e-9)
    np.testing.assert_allclose(binary_clustering(weights), list(nx.clustering(graph).values()))


def test_clustering_agrees_with_bct(weights, bct):
    expected = bct.clustering_coef_wu(weights / weights.max())
    np.testing.assert_allclose(weighted_clustering(weights), expected, atol=1e-6)


def test_participation_agrees_with_bct(weights, bct):
    labels = np.arange(len(weights)) % 5
    members = np.stack([labels == k for k in range(5)]).astype(float)
    np.testing.assert_allclose(
        participation(weights, members), bct.participation_coef(weights, labels + 1), atol=1e-6
    )


def test_modularity_of_a_partition_agrees_with_networkx(weights, graph):
    labels = np.arange(len(weights)) % 4
    groups = [set(np.flatnonzero(labels == k).tolist()) for k in range(4)]
    for gamma in (1.0, 1.7):
        expected = nx.community.modularity(graph, groups, resolution=gamma)
        assert modularity(weights, labels, gamma) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("gamma", [1.0, 1.5])
def test_louvain_lies_within_the_spread_of_networkx_runs(weights, graph, gamma):
    reference = [
        nx.community.modularity(
            graph,
            nx.community.louvain_communities(graph, resolution=gamma, seed=seed),
            resolution=gamma,
        )
        for seed in range(20)
    ]
    ours = [modularity(weights, louvain(weights, gamma, seed), gamma) for seed in range(20)]
    assert np.median(ours) >= np.percentile(reference, 10)
    assert max(ours) <= max(reference) + 0.005
    assert min(ours) >= min(reference) - (max(reference) - min(reference)) - 0.002


def test_louvain_finds_separate_blocks():
    weights = np.kron(np.eye(4), np.ones((8, 8))) - np.eye(32)
    partition = louvain(weights)
    assert len(np.unique(partition)) == 4
    assert all(len(set(partition[8 * k : 8 * k + 8])) == 1 for k in range(4))


def test_small_worldness_is_one_for_random_and_higher_for_ring_lattices():
    random = nx.to_numpy_array(nx.gnp_random_graph(300, 0.1, seed=0))
    lattice = nx.to_numpy_array(nx.watts_strogatz_graph(300, 30, 0.1, seed=0))
    assert small_worldness(random) == pytest.approx(1, abs=0.05)
    assert small_worldness(lattice) > 3


def test_an_empty_graph_gives_no_error():
    empty = np.zeros((12, 12))
    assert global_efficiency(empty) == 0
    assert weighted_clustering(empty).sum() == 0
    assert modularity(empty, louvain(empty)) == 0
    assert participation(empty, membership(["a"] * 12, np.ones(12, bool))).sum() == 0


def test_more_modular_scans_are_told_as_stronger_segregation():
    train = make_scans(20, coupling=0.5)
    family = Graph(NETWORKS).fit(train)
    (sentences,) = family.explain(make_scans(1, coupling=3.0, seed=9))
    text = " ".join(sentence.text for sentence in sentences)
    z = next(f.z for s in sentences for f in s.facts if f.measure == "modularity")
    assert z > 1
    assert "stronger segregation" in text


def test_small_worldness_is_left_out_where_its_null_does_not_hold():
    sparse = nx.to_numpy_array(nx.gnp_random_graph(90, 0.1, seed=0))  # n p^2 = 0.9
    assert np.isnan(small_worldness(sparse))
    family = Graph(NETWORKS).fit(make_scans(8))
    measures = family.transform(make_scans(2))
    assert measures["small_worldness"].isna().all()
    assert not any("small-world" in text for text in family.describe(measures))


def test_links_to_regions_without_a_network_count_in_participation():
    rng = np.random.default_rng(0)
    scan = np.repeat(rng.normal(size=(2, 80)), [10, 10], axis=0) + 0.1 * rng.normal(size=(20, 80))
    scan[10:] = scan[:10] + 0.1 * rng.normal(size=(10, 80))  # every region is linked to all others
    named = Graph(["A"] * 10 + [""] * 10, density=1.0).fit([scan, scan[::-1]])
    row = named.transform([scan]).iloc[0]
    assert row["participation__A"] == pytest.approx(0.5, abs=0.01)
    assert row["mean_participation"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("absolute", "words"), [(True, "by |r|"), (False, "positive")])
def test_the_text_says_which_edges_are_kept(absolute, words):
    family = Graph(NETWORKS, absolute=absolute).fit(make_scans(6))
    assert all(words in text for text in family.describe(make_scans(2)))
