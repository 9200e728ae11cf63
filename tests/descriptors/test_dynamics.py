"""Windows, states and synchrony on series whose answer is known."""

import numpy as np
import pytest

from descriptors.builders import NETWORKS, make_scans
from fmrilm.descriptors.dynamics import Dynamics
from fmrilm.descriptors.measures.windows import (
    high_pass,
    network_signals,
    phase_synchrony,
    windowed_connectivity,
)
from fmrilm.errors import InputError


def test_windows_equal_correlations_of_slices():
    signals = np.random.default_rng(0).normal(size=(4, 50))
    windows = windowed_connectivity(signals, width=20, step=5)
    assert windows.shape == (7, 6)
    expected = np.corrcoef(signals[:, 10:30])[np.triu_indices(4, 1)]
    np.testing.assert_allclose(windows[2], expected)


def test_signals_in_phase_are_fully_synchronous():
    time = np.arange(200) * 2.0
    wave = np.sin(2 * np.pi * 0.05 * time)
    assert phase_synchrony(np.stack((wave, 2 * wave, wave)), 2.0).min() > 0.99
    opposite = phase_synchrony(np.stack((wave, -wave)), 2.0)
    assert opposite.max() < 0.01


def test_a_scan_that_alternates_switches_more():
    rng = np.random.default_rng(0)
    labels = np.unique(NETWORKS, return_inverse=True)[1]

    def alternate(period):
        shared = rng.normal(size=320)
        own = rng.normal(size=(5, 320))
        together = (np.arange(320) // period % 2 == 0)[None]
        signals = np.where(together, shared, own)
        return signals[labels] + 0.5 * rng.normal(size=(30, 320))

    family = Dynamics(NETWORKS).fit([alternate(160) for _ in range(8)])
    fast, slow = family.transform([alternate(40), alternate(160)])["switching_rate"]
    assert fast > slow
    assert family.states_[-1].mean() > family.states_[0].mean() + 0.3


def test_occupancies_add_up_to_one():
    family = Dynamics(NETWORKS).fit(make_scans(6))
    table = family.transform(make_scans(3, seed=1)).filter(like="occupancy")
    np.testing.assert_allclose(table.sum(axis=1), 1)


def test_a_missing_network_leaves_the_others_measured():
    family = Dynamics(NETWORKS).fit(make_scans(6))
    scan = make_scans(1, seed=1)[0]
    scan[np.array(NETWORKS) == "Default"] = np.nan
    row = family.transform([scan]).iloc[0]
    assert np.isnan(row["fc_fluctuation__Default"])
    assert np.isfinite(row.drop("fc_fluctuation__Default").to_numpy(float)).all()


def test_networks_without_a_region_are_nan():
    members = np.array([[1.0, 1.0], [0.0, 0.0]])
    signals = network_signals(np.random.default_rng(0).normal(size=(2, 10)), members)
    assert np.isfinite(signals[0]).all()
    assert np.isnan(signals[1]).all()


def test_too_few_windows_and_too_few_networks_are_refused():
    with pytest.raises(InputError, match="windows of 60 s"):
        Dynamics(NETWORKS).fit(make_scans(3, n_timepoints=25))
    with pytest.raises(InputError, match="three networks"):
        Dynamics(["a"] * 30).fit(make_scans(3))


def test_a_drift_slower_than_a_window_is_no_connectivity():
    time = np.arange(300) * 2.0
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 300))
    drift = 20 * np.cos(2 * np.pi * time / 400)
    plain = windowed_connectivity(noise + drift, 30, 2)
    passed = windowed_connectivity(high_pass(noise + drift, 2.0, 1 / 60), 30, 2)
    assert np.abs(plain).mean() > 0.7
    assert np.abs(passed - windowed_connectivity(noise, 30, 2)).mean() < 0.15
    fast = np.sin(2 * np.pi * 0.05 * time)[None]
    inner = slice(30, -30)
    np.testing.assert_allclose(high_pass(fast, 2.0, 1 / 60)[:, inner], fast[:, inner], atol=0.05)
