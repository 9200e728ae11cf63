import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from fmrilm.atlases.atlas import Atlas
from fmrilm.config.schema import TokenizerConfig
from fmrilm.explanation.attribution import RegionMap
from fmrilm.explanation.connections import (
    connection_occlusion,
    connection_shares,
    pair_name,
    pair_table,
    pairs_of_networks,
    planted_pairs,
    recovery,
)
from fmrilm.explanation.explain import explain
from fmrilm.explanation.maps import likeness
from fmrilm.tokenizer.tokenizer import FMRITokenizer

ROIS, TIMES = 12, 40
NETWORKS = [name for name in ("A", "B", "C") for _ in range(4)]
PLANTED = ("A", "B")


def _atlas():
    labels = tuple(str(index) for index in range(ROIS))
    sides = ("",) * ROIS
    return Atlas("toy", labels, labels, tuple(NETWORKS), sides, np.full((ROIS, 3), np.nan))


def _tokenizer():
    torch.manual_seed(0)
    options = {"n_embd": 16, "n_layer": 1, "n_head": 2, "codebook_size": 16, "code_dim": 4}
    config = TokenizerConfig(TIMES, ROIS, TIMES, "vit_tiny", **options)
    return FMRITokenizer(config).eval()


def _scans(n=24, seed=0):
    """Scans in which networks A and B go together in half of the people."""
    rng = np.random.default_rng(seed)
    has = np.resize([True, False], n)
    series = rng.normal(size=(n, ROIS, TIMES)).astype(np.float32)
    shared = rng.normal(size=(n, 1, TIMES))
    series[:, :8] += (has[:, None, None] * shared).astype(np.float32)
    return series, np.ones((n, ROIS), dtype=bool), has, np.arange(n).astype(str)


def _reader(tokenizer):
    """Log-odds from the connections between A and B, squashed, and a little from those of C."""

    def target(fmri, roi_mask):
        profiles = tokenizer.profiles(fmri, roi_mask)[:, 0]
        return torch.tanh(profiles[:, :4, 4:8].mean((1, 2))) + 0.1 * profiles[:, :, 8:].mean((1, 2))

    return target


def test_the_shares_of_the_connections_add_up_to_the_change():
    tokenizer = _tokenizer()

    def target(fmri, roi_mask):
        return tokenizer.encode(fmri, roi_mask).square().mean((1, 2))

    series, mask, *_ = _scans(6)
    shares, change = connection_shares(target, tokenizer, series, mask, 64)
    assert shares.shape == (6, ROIS, ROIS)
    assert np.allclose(shares, shares.transpose(0, 2, 1))
    assert (np.diagonal(shares, axis1=1, axis2=2) == 0).all()
    error = np.abs(shares.sum((1, 2)) / 2 - change)
    assert error.mean() < 0.02 * np.abs(change).mean()


def test_the_tokenizer_is_as_before_once_it_was_explained():
    tokenizer = _tokenizer()
    series, mask, *_ = _scans(2)
    before = tokenizer.profiles(torch.from_numpy(series), torch.from_numpy(mask))
    connection_shares(_reader(tokenizer), tokenizer, series, mask, 2)
    after = tokenizer.profiles(torch.from_numpy(series), torch.from_numpy(mask))
    assert torch.equal(before, after)


@pytest.fixture(scope="module")
def explained():
    tokenizer, (series, mask, has, subjects) = _tokenizer(), _scans()
    pairs = pairs_of_networks(_atlas())
    shares, _ = connection_shares(_reader(tokenizer), tokenizer, series, mask, 16)
    blocks = {pair_name(pair): block for pair, block in pairs.items()}
    lost = connection_occlusion(_reader(tokenizer), tokenizer, series, mask, blocks)
    table = pair_table(shares, lost, pairs, has, subjects)
    return table, RegionMap.from_shares(shares, has, subjects).z, pairs


def test_the_planted_pair_of_networks_stands_first_by_both_ways(explained):
    table, connections, pairs = explained
    assert tuple(table.loc[0, ["first", "second"]]) == PLANTED
    assert table.loc[0, "share"] > 0.9
    assert table.loc[0, "z"] > 3
    assert table["lost_without"].idxmax() == table["lost_z"].idxmax() == 0
    assert table["connections"].sum() == ROIS * (ROIS - 1) // 2
    found = recovery(table, connections, pairs, {PLANTED})
    assert found["pairs_enrichment"] == found["pairs_ceiling"] == pytest.approx(6)
    assert found["pairs_auc"] == 1
    assert found["connections_enrichment"] > 3


def test_likeness_is_that_of_ranks_and_none_to_a_flat_map():
    values = np.arange(9.0)
    assert likeness(values, values**3) == pytest.approx(1)
    assert likeness(values, np.zeros(9)) == 0


def test_only_planted_connectivity_of_the_asked_phenotype_counts(tmp_path):
    effects = [
        {"phenotype": "fluidintel", "kind": "connectivity", "networks": ["Vis", "Cont"]},
        {"phenotype": "fluidintel", "kind": "amplitude", "networks": ["Vis"]},
        {"phenotype": "sex", "kind": "connectivity", "networks": ["Vis", "Vis"]},
    ]
    (tmp_path / "planted_effects.json").write_text(json.dumps({"effects": effects}))
    assert planted_pairs(SimpleNamespace(folder=tmp_path), "fluidintel_enc") == {("Cont", "Vis")}
    assert planted_pairs(SimpleNamespace(folder=tmp_path / "none"), "sex") == set()


def test_a_run_that_reads_connectivity_is_explained_by_pairs_of_networks(runs, tmp_path, capsys):
    explain(str(runs["instruct"]), samples=6, steps=48, split="train", output=str(tmp_path))
    table = pd.read_csv(tmp_path / "network_pairs.tsv", sep="\t")
    assert len(table) == 6  # three networks
    assert table["z"].is_monotonic_decreasing
    facts = json.loads((tmp_path / "attribution.json").read_text())["connections"]
    assert facts["completeness_error"] < 0.1
    assert abs(facts["randomised_correlation"]) < 0.9
    assert np.load(tmp_path / "connections.npy").shape == (2, 12, 12)
