"""Family activation against a direct computation."""

import numpy as np
import pytest

from descriptors.builders import NETWORKS, make_scans
from fmrilm.descriptors import Activation


def test_level_and_slope_equal_mean_and_line_fit():
    scan = make_scans(1, n_timepoints=8)[0]
    family = Activation(NETWORKS, t_r=2.0)
    values = dict(zip(family.get_feature_names_out(), family.measure_scan(scan), strict=True))
    mean = scan[np.array(NETWORKS) == "Cont"].mean(0)
    assert values["activation__Cont"] == pytest.approx(mean.mean())
    assert values["trend__Cont"] == pytest.approx(np.polyfit(np.arange(8) * 2.0, mean, 1)[0])


def test_a_raised_network_is_told_as_higher():
    family = Activation(NETWORKS).fit(make_scans(20, n_timepoints=8))
    scan = make_scans(1, n_timepoints=8, seed=3)[0]
    scan[np.array(NETWORKS) == "Default"] += 10
    facts = {f.measure: f.z for s in family.explain([scan])[0] for f in s.facts}
    assert facts["activation__Default"] > 2
