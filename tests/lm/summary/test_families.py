"""What the signal families are blind to, and what they are not."""

import numpy as np
import pytest
import torch

from fmrilm.lm.summary.families import (
    FAMILIES,
    families,
    parcel_series,
    parcel_weights,
    whiten,
)

B, R, T, K = 3, 12, 80, 4


@pytest.fixture
def scans():
    torch.manual_seed(0)
    return torch.randn(B, R, T).cumsum(-1) * 0.3 + torch.randn(B, R, T)


def weights():
    return torch.from_numpy(parcel_weights(np.kron(np.eye(K), np.ones((R // K, R // K))), K))


def measure(fmri, mask=None):
    mask = torch.ones(len(fmri), R, dtype=torch.bool) if mask is None else mask
    x, level, times = parcel_series(fmri, mask, weights())
    return families(x, whiten(x, times, torch.eye(K)), level, times)


def same(first, second, **tolerance):
    for name in FAMILIES:
        for a, b in zip(first[name], second[name], strict=True):
            torch.testing.assert_close(a, b, **(tolerance or {"atol": 1e-4, "rtol": 1e-3}))


def test_parcels_are_blocks_that_correlate_alike():
    found = weights()
    assert found.shape == (K, R)
    torch.testing.assert_close(found.sum(1), torch.ones(K))
    assert ((found > 0).sum(1) == R // K).all()
    assert ((found > 0).sum(0) == 1).all()


def test_coupling_is_the_correlation_of_the_parcels(scans):
    x, _, _ = parcel_series(scans, torch.ones(B, R, dtype=torch.bool), weights())
    row, column = np.triu_indices(K, 1)
    for b in range(B):
        r = np.corrcoef(x[b])[row, column]
        np.testing.assert_allclose(torch.tanh(measure(scans)["coupling"][0][b]), r, atol=1e-4)


def test_lag_and_reversal_change_their_sign_with_the_direction_of_time(scans):
    forwards, backwards = measure(scans), measure(scans.flip(-1))
    for name in ("coupling", "dwell", "spectrum", "burst"):
        for a, b in zip(forwards[name], backwards[name], strict=True):
            torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-2)
    for a, b in zip(forwards["lag"], backwards["lag"], strict=True):
        torch.testing.assert_close(a, -b, atol=1e-4, rtol=1e-3)
    skewness = slice(None, None, 1 + 2 * 4)  # of every parcel the first number
    for a, b in zip(forwards["reversal"], backwards["reversal"], strict=True):
        torch.testing.assert_close(a[:, skewness], b[:, skewness], atol=1e-4, rtol=1e-3)
        others = [i for i in range(a.shape[1]) if i % 9]
        torch.testing.assert_close(a[:, others], -b[:, others], atol=1e-3, rtol=1e-2)


def test_scaling_and_level_of_the_regions_do_not_matter_but_for_the_level(scans):
    factor = torch.rand(1, R, 1) + 0.5
    first, second = measure(scans), measure(scans * factor + 7)
    assert not torch.allclose(first["spectrum"][-1], second["spectrum"][-1])
    first["spectrum"].pop()
    second["spectrum"].pop()
    same(first, second)


def test_whitening_leaves_little_of_the_correlation(scans):
    mixing = torch.eye(R) + 0.2 * torch.rand(R, R)
    mixed = torch.einsum("rs,bst->brt", mixing, torch.randn(B, R, T))
    raw, white = measure(mixed)["coupling"]
    assert white.abs().mean() < 0.5 * raw.abs().mean()


def test_padding_and_absent_regions_are_not_read(scans):
    mask = torch.ones(B, R, T, dtype=torch.bool)
    mask[:, :, 60:] = False
    mask[:, 5] = False
    other = scans.clone()
    other[:, :, 60:] = 99.0
    other[:, 5] = -99.0
    same(measure(scans, mask), measure(other, mask))
    short = scans[..., :60]
    mask = torch.ones(B, R, dtype=torch.bool)
    mask[:, 5] = False
    padded = torch.nn.functional.pad(short, (0, 20))
    full = mask[:, :, None] & (torch.arange(T) < 60)
    first, second = measure(short, mask), measure(padded, full)
    for name in ("coupling", "lag", "dwell", "burst", "reversal"):
        for a, b in zip(first[name], second[name], strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_a_network_that_leads_shows_in_the_lag_alone():
    """Who leads is turned round between two scans: nothing else is to differ."""
    torch.manual_seed(1)
    course = torch.nn.functional.avg_pool1d(torch.randn(1, 1, 4200), 5, 1)[0, 0]
    noise = 0.3 * torch.randn(R, 4000)
    lead = noise.clone()
    lead[:3] += course[2:4002][:4000]
    lead[3:6] += course[:4000]
    follow = noise.clone()
    follow[:3] += course[:4000]
    follow[3:6] += course[2:4002][:4000]
    both = torch.stack([lead, follow])
    found = measure(both)
    assert (found["lag"][0][0] - found["lag"][0][1]).abs().max() > 0.2
    assert (found["coupling"][0][0] - found["coupling"][0][1]).abs().max() < 0.1


def test_very_short_windows_have_numbers_too():
    x, level, times = parcel_series(
        torch.randn(2, R, 6), torch.ones(2, R, dtype=torch.bool), weights()
    )
    for parts in families(x, whiten(x, times, torch.eye(K)), level, times).values():
        assert all(torch.isfinite(part).all() for part in parts)
