"""Small series with a network structure, made in the test."""

import numpy as np

NETWORKS = ["Vis"] * 6 + ["SomMot"] * 6 + ["DorsAttn"] * 6 + ["Default"] * 6 + ["Cont"] * 6
NAMES = [f"{network.lower()}_{i % 6}" for i, network in enumerate(NETWORKS)]
T_R = 2.0


def make_scans(n=12, n_timepoints=80, seed=0, coupling=1.0):
    """Scans whose regions share a smooth signal with their network, shape (30, n_timepoints)."""
    rng = np.random.default_rng(seed)
    labels = np.unique(NETWORKS, return_inverse=True)[1]
    scans = []
    for _ in range(n):
        signals = rng.normal(size=(labels.max() + 1, n_timepoints + 4))
        signals = np.stack([np.convolve(row, np.ones(5) / 5**0.5, "valid") for row in signals])
        strength = coupling * rng.uniform(0.6, 1.4, size=len(labels))[:, None]
        noise = rng.normal(size=(len(labels), n_timepoints))
        scans.append(strength * signals[labels] + noise)
    return scans
