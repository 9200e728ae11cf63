import numpy as np
import pytest
import torch

from fmrilm.explanation.attribution import (
    RegionMap,
    enrichment,
    enrichment_ceiling,
    integrated_gradients,
    occlusion,
    randomise_weights,
    reference_scan,
)

ROIS, TIMES = 40, 60
PLANTED = np.arange(40) < 6


def _scans(n=40, seed=0):
    """Scans whose first six regions are coupled in half of the people."""
    rng = np.random.default_rng(seed)
    has = np.resize([True, False], n)
    series = rng.normal(size=(n, ROIS, TIMES)).astype(np.float32)
    shared = rng.normal(size=(n, 1, TIMES))
    series[:, PLANTED] += (1.5 * has[:, None, None] * shared).astype(np.float32)
    return series, np.ones((n, ROIS), dtype=bool), has, np.arange(n).astype(str)


def _coupling(fmri, mask):
    """Read the correlations of the planted regions and, a little, those of all others."""
    unit = fmri - fmri.mean(2, keepdim=True)
    unit = unit / unit.norm(dim=2, keepdim=True).clamp_min(1e-6) * mask[:, :, None]
    r = unit @ unit.transpose(1, 2)
    return r[:, :6, :6].mean((1, 2)) * 10 + 0.1 * r.mean((1, 2))


def _map(target, steps=24):
    series, mask, has, subjects = _scans()
    reference = np.stack([reference_scan(one, i) for i, one in enumerate(series)])
    shares, change = integrated_gradients(target, series, mask, reference, steps)
    return RegionMap.from_shares(shares, has, subjects), shares, change


def test_the_shares_of_the_regions_add_up_to_the_change():
    _, shares, change = _map(_coupling, 64)
    assert np.abs(shares.sum(1) - change).mean() < 0.02 * np.abs(change).mean()


def test_integrated_gradients_find_the_planted_regions():
    found, _, _ = _map(_coupling)
    assert enrichment(found.contrast, PLANTED) > 3
    assert set(np.argsort(-found.contrast)[:6]) == set(range(6))
    assert found.z[:6].min() > 3


def test_a_blank_reference_would_miss_what_is_read_from_correlations():
    series, mask, *_ = _scans()
    shares, change = integrated_gradients(_coupling, series, mask, np.zeros_like(series), 16)
    assert np.abs(shares.sum(1)).mean() < 0.05 * np.abs(change).mean()


def test_a_short_scan_is_compared_with_a_blank_one():
    assert (reference_scan(np.ones((3, 8), dtype=np.float32), 0) == 0).all()
    assert reference_scan(np.random.default_rng(0).normal(size=(3, 60)), 0).std() > 0.5


def test_occlusion_finds_the_planted_group_and_not_another():
    series, mask, has, _ = _scans()
    groups = {"planted": np.arange(6), "other": np.arange(10, 16)}
    lost = occlusion(_coupling, series, mask, groups)
    gap = {name: values[has].mean() - values[~has].mean() for name, values in lost.items()}
    assert gap["planted"] > 10 * abs(gap["other"])


def test_randomised_weights_are_the_same_numbers_in_other_places_and_leave_the_model_alone():
    model = torch.nn.Linear(30, 4)
    before = model.weight.detach().clone()
    other = randomise_weights(model)
    assert torch.equal(model.weight, before)
    assert not torch.equal(other.weight, before)
    assert torch.equal(
        other.weight.detach().flatten().sort().values, before.flatten().sort().values
    )


def test_enrichment_is_one_by_chance_and_at_most_the_inverse_share():
    importance = np.arange(100.0)
    assert enrichment(importance, importance >= 90) == pytest.approx(10)
    assert enrichment(importance, np.arange(100) % 10 == 0) == pytest.approx(1)


def test_no_order_is_enriched_more_than_the_ceiling_and_the_best_one_is_as_much():
    for count in (3, 4, 10):
        planted = np.arange(36) < count
        assert enrichment(-np.arange(36.0), planted) == pytest.approx(enrichment_ceiling(planted))
    assert enrichment_ceiling(np.arange(36) < 3) == pytest.approx(9)  # three of a top of four
