"""Family ``dynamics``: connectivity states over sliding windows, switching, metastability."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fmrilm.descriptors.base import DESCRIPTORS, Descriptor
from fmrilm.descriptors.measures.networks import membership, network_order
from fmrilm.descriptors.measures.scans import training_scans
from fmrilm.descriptors.measures.windows import (
    high_pass,
    network_signals,
    phase_synchrony,
    windowed_connectivity,
)
from fmrilm.descriptors.text.facts import Fact, Quantity, Statement, measure_name
from fmrilm.errors import InputError

N_STATES = 4
GLOBAL = ("metastability", "synchrony", "switching_rate")


@DESCRIPTORS.register("dynamics")
class Dynamics(Descriptor):
    """How connectivity between networks changes over the scan.

    Fitting clusters the training scans' windows (k-means) into four states, ordered from the
    weakest to the strongest mean connectivity. Measures: ``metastability`` and ``synchrony`` (SD
    and mean of the networks' Kuramoto order parameter, 0.01-0.1 Hz), ``switching_rate`` (state
    changes per minute), ``state<k>_occupancy`` (share of windows), ``fc_fluctuation__<network>``
    (SD over windows of the network's connections, mean over the connections).

    Parameters
    ----------
    networks, t_r, names
        As in :class:`Descriptor`.
    window : float
        Length of a window in seconds; windows start every two time points. Before they are cut,
        networks' signals are high-passed at 1 / window.
    random_state : int
        Of k-means.

    Attributes
    ----------
    states_ : ndarray, shape (4, n_pairs)
        Mean connectivity of each state, over the pairs of networks.

    Examples
    --------
    >>> family = Dynamics(networks=["Vis"] * 10 + ["Default"] * 10).fit(train_scans)
    >>> family.describe(test_scans)
    """

    family = "dynamics"
    title = "Connectivity dynamics"
    min_timepoints = 20
    min_rois = 4
    template = ("states_",)
    step = 2
    quantities = (
        Quantity(
            "metastability",
            "metastability",
            higher="network synchrony that varies more over time",
            lower="network synchrony that varies less over time",
        ),
        Quantity("synchrony", "phase synchrony", ("network synchrony",)),
        Quantity(
            "switching_rate",
            "state switching rate",
            ("rate of state switches",),
            higher="more frequent changes between connectivity states",
            lower="longer stays in each connectivity state",
        ),
        *(
            Quantity(f"state{k}_occupancy", f"time in state {k}", (f"occupancy of state {k}",))
            for k in range(1, N_STATES + 1)
        ),
        Quantity(
            "fc_fluctuation", "connectivity fluctuation", ("fluctuation of connectivity over time",)
        ),
    )

    def __init__(
        self,
        networks: Sequence[str],
        t_r: float = 2.0,
        names: Sequence[str] | None = None,
        window: float = 60.0,
        random_state: int = 0,
    ) -> None:
        super().__init__(networks, t_r, names)
        self.window = window
        self.random_state = random_state

    def measure_names(self) -> list[str]:
        """Return the names of the measures."""
        states = [f"state{k}_occupancy" for k in range(1, N_STATES + 1)]
        order = network_order(self.networks)
        return [*GLOBAL, *states, *(measure_name("fc_fluctuation", name) for name in order)]

    def fit_template(self, scans: Iterable[np.ndarray]) -> Dynamics:
        """Learn ``states_`` from the windows of the training scans.

        Raises
        ------
        InputError
            If the training scans have fewer windows than states, or only one network.
        """
        if len(network_order(self.networks)) < 3:
            raise InputError("dynamics needs at least three networks, see the atlas's table")
        from sklearn.cluster import KMeans

        found = []
        checked = training_scans(scans, len(self.networks), self.min_rois, self.min_timepoints)
        for series, usable, kept in checked:
            windows = self._windows(series, usable, kept)[
                :: max(1, self._width() // self.step // 2)
            ]
            found.append(windows[np.isfinite(windows).all(axis=1)])
        windows = np.concatenate(found) if found else np.empty((0, 1))
        if len(windows) < 2 * N_STATES:
            raise InputError(
                f"dynamics: the training scans have {len(windows)} windows of {self.window:g} s "
                f"with every network, at least {2 * N_STATES} are needed"
            )
        centres = KMeans(N_STATES, n_init=5, random_state=self.random_state).fit(windows)
        states = centres.cluster_centers_
        self.states_ = states[np.argsort(states.mean(axis=1))]
        return self

    def measure(self, series: np.ndarray, usable: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return the measures of one scan."""
        windows = self._windows(series, usable, kept)
        pairs = np.isfinite(windows).all(axis=0) if len(windows) else np.zeros(0, bool)
        if len(windows) < 2 or not pairs.any():
            return np.full(len(self.measure_names()), np.nan)
        signals = network_signals(series[usable], membership(self.networks, usable))
        order = phase_synchrony(signals[np.isfinite(signals).all(axis=1)], self.t_r)
        gap = windows[:, None, pairs] - self.states_[None][:, :, pairs]
        state = (gap**2).sum(axis=2).argmin(axis=1)
        minutes = (len(windows) - 1) * self.step * self.t_r / 60
        occupancy = np.bincount(state, minlength=N_STATES) / len(state)
        fluctuation = _by_network(windows.std(axis=0), len(signals))
        overall = (order.std(), order.mean(), np.count_nonzero(np.diff(state)) / minutes)
        return np.concatenate((overall, occupancy, fluctuation))

    def choose(self, facts: dict[str, Fact]) -> list[Statement]:
        """Return the global measures, the time in the states, the networks that fluctuate most."""
        overall = [facts[name] for name in GLOBAL if name in facts]
        states = [fact for fact in facts.values() if fact.quantity.endswith("_occupancy")]
        far = sorted(states, key=lambda fact: -abs(fact.z))[:2]
        local = [fact for fact in facts.values() if fact.quantity == "fc_fluctuation"]
        local = sorted(local, key=lambda fact: -abs(fact.z))[:3]
        statements = [Statement("level", tuple(overall[:2]))] if overall else []
        if overall[2:]:
            statements.append(Statement("level", tuple(overall[2:])))
        if far:
            statements.append(Statement("level", tuple(far)))
            statements.append(
                Statement("note", text="States are numbered from weak to strong coupling.")
            )
        if local:
            statements.append(Statement("compare", tuple(local)))
        return statements

    def _width(self) -> int:
        return max(5, round(self.window / self.t_r))

    def _windows(self, series: np.ndarray, usable: np.ndarray, kept: np.ndarray) -> np.ndarray:
        signals = network_signals(series[usable], membership(self.networks, usable))
        if series.shape[1] < self._width():
            return np.empty((0, len(signals) * (len(signals) - 1) // 2))
        signals = high_pass(signals, self.t_r, 1 / (self._width() * self.t_r))
        return windowed_connectivity(signals, self._width(), self.step, kept)


def _by_network(pairs: np.ndarray, n: int) -> np.ndarray:
    """Return the mean over each network's pairs, shape (n,); NaN pairs are left out."""
    square = np.full((n, n), np.nan)
    square[np.triu_indices(n, 1)] = pairs
    known = np.isfinite(square) | np.isfinite(square.T)
    total = np.nan_to_num(square) + np.nan_to_num(square).T
    count = known.sum(axis=1)
    return np.divide(total.sum(axis=1), count, out=np.full(n, np.nan), where=count > 0)
