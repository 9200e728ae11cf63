"""The drift meter is quiet on scans like those it was fitted on, and not on others."""

import numpy as np
import pytest

from fmrilm.processing.drift import DriftMeter

REGIONS, POINTS, T_R = 30, 160, 2.0


def make_scans(count, seed):
    """Scans with a spectrum, a mixing of regions common to all, and some of their own."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((REGIONS, 6))
    scans = []
    for _ in range(count):
        frequencies = np.fft.rfftfreq(POINTS, T_R)[1:]
        noise = rng.standard_normal((6 + REGIONS, len(frequencies))) + 1j * rng.standard_normal(
            (6 + REGIONS, len(frequencies))
        )
        spectrum = np.concatenate([np.zeros((6 + REGIONS, 1)), noise / frequencies**0.5], axis=1)
        series = np.fft.irfft(spectrum, POINTS, axis=1)
        own = mixing + 0.4 * rng.standard_normal(mixing.shape)
        scans.append(1000 + own @ series[:6] + 1.5 * series[6:])
    return scans


@pytest.fixture(scope="module")
def meter():
    return DriftMeter().fit(make_scans(120, 1), T_R)


@pytest.fixture(scope="module")
def held_out():
    return make_scans(100, 2)


def flagged(meter, scans):
    return np.mean([meter.compare(scan).is_unlike for scan in scans])


def test_it_is_quiet_on_scans_like_those_of_training(meter, held_out):
    assert flagged(meter, held_out) <= 0.05


def test_the_scale_of_a_scan_does_not_count(meter, held_out):
    assert flagged(meter, [3 * scan + 50 for scan in held_out]) <= 0.05


def test_shuffled_regions_another_rate_and_jumps_are_flagged(meter, held_out):
    rng = np.random.default_rng(3)
    assert flagged(meter, [scan[rng.permutation(REGIONS)] for scan in held_out]) > 0.95
    faster = [np.repeat(scan[:, :80], 2, axis=1) for scan in held_out]
    assert flagged(meter, faster) > 0.95
    jumping = [scan.copy() for scan in held_out]
    for scan in jumping:
        scan[:, 50:52] += 5 * scan.std(axis=1, keepdims=True)
    assert flagged(meter, jumping) > 0.95


def test_it_says_what_is_unlike(meter, held_out):
    rng = np.random.default_rng(3)
    said = meter.compare(held_out[0][rng.permutation(REGIONS)]).text
    assert "which regions go together" in said
    assert "like the training scans" in meter.compare(held_out[0]).text


def test_absent_regions_count(meter, held_out):
    scan = held_out[0].copy()
    scan[:10] = np.nan
    assert meter.compare(scan).ratios["regions"] > 1


def test_saved_and_read_again_it_says_the_same(meter, held_out, tmp_path):
    meter.save(tmp_path / "drift.npz")
    again = DriftMeter.load(tmp_path / "drift.npz")
    assert again.compare(held_out[3]) == meter.compare(held_out[3])


def test_with_too_few_scans_nothing_is_said():
    drift = DriftMeter().fit(make_scans(5, 1), T_R).compare(make_scans(1, 2)[0])
    assert drift.ratios == {}
    assert not drift.is_unlike
