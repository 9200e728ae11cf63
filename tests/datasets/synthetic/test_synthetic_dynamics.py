import json

import numpy as np
import pytest

from fmrilm.atlases.atlas import Atlas
from fmrilm.cohort.cohort import Cohort
from fmrilm.datasets.synthetic.cohort import simulate
from fmrilm.datasets.synthetic.dynamics import (
    DYNAMICS,
    add_dynamics,
    draw_properties,
    group_sizes,
    measure_dynamics,
    oracle_auc,
)
from fmrilm.datasets.synthetic.effects import NETWORKS
from fmrilm.datasets.synthetic.signal import SIGNALS, Scanner
from fmrilm.errors import InputError
from fmrilm.tasks import TASKS

FIRST = [10987.8525390625, 11066.5673828125, 10772.681640625]
BASE = Atlas.generic(40)
ATLAS = Atlas("small", BASE.labels, BASE.names, NETWORKS * 5, BASE.hemispheres, BASE.centroids)


def people(effect, count=80, points=160):
    """Scans (count, 40, points) of people with an effect on nothing else than noise, and groups."""
    scanner = Scanner(ATLAS, np.eye(40), points, SIGNALS["second"])
    rng = np.random.default_rng(3)
    groups = np.arange(count) % 2
    scans = [
        add_dynamics(
            rng.standard_normal((40, points)),
            scanner,
            draw_properties(effect, bool(group), rng),
            effect,
            rng,
        )
        for group in groups
    ]
    return np.array(scans), groups, scanner.network


@pytest.mark.parametrize("effect", list(DYNAMICS))
def test_an_effect_shows_in_its_own_measure_and_in_no_other(effect):
    import pandas as pd

    scans, groups, network = people(effect)
    found = oracle_auc([measure_dynamics(scan, network) for scan in scans], pd.Series(groups))
    assert found[effect] > 0.9
    others = [value for name, value in found.items() if name != effect]
    assert all(0.25 < value < 0.75 for value in others)  # 3.9 standard errors of 80 people


@pytest.mark.parametrize("effect", [name for name in DYNAMICS if name != "fc"])
def test_the_mean_connectivity_of_the_groups_is_the_same_where_connectivity_cannot_show_it(effect):
    scans, groups, network = people(effect)
    means = np.array([[scan[network == k].mean(0) for k in range(8)] for scan in scans])
    fc = np.array([np.corrcoef(scan)[np.triu_indices(8, 1)] for scan in means])
    first, second = fc[groups == 0], fc[groups == 1]
    t = (first.mean(0) - second.mean(0)) / np.sqrt(first.var(0) / 40 + second.var(0) / 40)
    assert np.abs(t).max() < 3.8  # of 28 pairs


def test_a_cohort_with_an_effect_asks_for_the_group_and_says_what_an_oracle_sees(tmp_path):
    folder = simulate(str(tmp_path / "lag"), effect="lag", subjects=24, timepoints=80)
    cohort = Cohort(folder)
    assert cohort.name == "effect-lag"
    assert cohort.info.targets == ["group"]
    labels = [TASKS["group"].class_index(value) for value in cohort.labels("group")]
    assert sorted(set(labels)) == [0, 1]
    told = json.loads((folder / "planted_effects.json").read_text())
    assert told["effect"] == "lag"
    assert told["oracle_auc"]["lag"] > 0.7


def test_an_unknown_effect_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="effect"):
        simulate(str(tmp_path / "x"), effect="lags", subjects=24, timepoints=40)


def test_a_mixed_effect_is_in_two_kinds():
    assert len(group_sizes("mixed")) == 2


def test_the_first_simulator_is_kept_by_name(tmp_path, monkeypatch):
    """Numbers of the simulator as it was before it had presets (seed 0, 10 people, 20 volumes)."""
    monkeypatch.setattr("fmrilm.datasets.synthetic.signal._brainspace_matrix", lambda: None)
    folder = simulate(str(tmp_path / "a"), subjects=10, timepoints=20, preset="first")
    series = Cohort(folder).store.read(3)[0]
    np.testing.assert_allclose(series[[0, 200, 449], [0, 10, 19]], FIRST, rtol=1e-5)


def test_small_effects_are_a_third_and_confounded_sites_go_with_the_label(tmp_path):
    small = simulate(str(tmp_path / "s"), subjects=10, timepoints=20, preset="small")
    effects = json.loads((small / "planted_effects.json").read_text())["effects"]
    assert max(abs(effect["d"]) for effect in effects) == pytest.approx(0.3)
    folder = simulate(str(tmp_path / "c"), subjects=40, timepoints=20, preset="confounded")
    table = Cohort(folder).table
    noisy = table["site"].isin(sorted(table["site"].unique())[1::2])
    shares = noisy.groupby(table["sex"]).mean()
    assert abs(shares["F"] - shares["M"]) > 0.4
