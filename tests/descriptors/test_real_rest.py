"""On real resting BOLD (one person, 100 Schaefer parcels, in the installed package brainfc)."""

import importlib.metadata

import numpy as np
import pandas as pd
import pytest

from fmrilm.descriptors import DESCRIPTORS, verify

pytestmark = pytest.mark.demo_data


@pytest.fixture(scope="module")
def rest():
    """The series (100, 150) after removing the linear trend of motion, and its regions."""
    try:
        found = importlib.metadata.files("brainfc")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("brainfc is not installed (its data are needed)")
    paths = {item.name: item.locate() for item in found if "rest01" in str(item)}
    rois = pd.read_csv(paths["rois.tsv"], sep="\t")
    series = pd.read_csv(paths["timeseries.tsv"], sep="\t").to_numpy(float).T
    return series[:, 5:], rois


@pytest.fixture(scope="module")
def halves(rest):
    series, rois = rest
    return list(np.array_split(series[:, :144], 6, axis=1)), rois


def test_connectivity_within_networks_exceeds_that_between(rest):
    series, rois = rest
    family = DESCRIPTORS["fc"](rois["network"].tolist())
    names = family.get_feature_names_out()
    row = dict(zip(names, family.measure_scan(series), strict=True))
    assert row["fc_within"] > row["fc_between"] + 0.1
    networks = rois["network"].unique()
    for network in networks:
        pairs = [name for name in names if network in name.split("__")[1:]]
        own = row[f"fc__{network}__{network}"]
        others = [row[name] for name in pairs if name != f"fc__{network}__{network}"]
        assert own > np.mean(others), network


def test_every_family_describes_real_data_truthfully(halves):
    parts, rois = halves
    for name, family in DESCRIPTORS.items():
        if name == "dynamics":  # a sixth of this scan is shorter than one window
            continue
        descriptor = family(rois["network"].tolist(), t_r=2.0, names=rois["name"].tolist())
        measures = descriptor.fit(parts).transform(parts)
        table = pd.concat([measures, descriptor.z_scores(measures)], axis=1)
        for row, text in zip(table.to_dict("records"), descriptor.describe(measures), strict=True):
            assert verify(text, row, descriptor.place_names()).is_true, text
