"""Regions are measured one by one and called by their anatomy."""

import numpy as np
import pytest

from descriptors.builders import NETWORKS, make_scans
from fmrilm.atlases.atlas import Atlas
from fmrilm.descriptors import DESCRIPTORS
from fmrilm.descriptors.text.region_names import region_name, region_names


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("7Networks_RH_SalVentAttn_FrOperIns_5", "right salience frontal operculum and insula 5"),
        ("7Networks_LH_Vis_11", "left visual 11"),
        (
            "17Networks_LH_DefaultA_pCunPCC_1",
            "left default mode precuneus and posterior cingulate 1",
        ),
        ("thalamus_VP_lat-lh", "left thalamus VP lateral"),
        ("L_MFgyr_a", "left MFgyr a"),
        ("SUP_FRONTAL", "SUP FRONTAL"),
    ],
)
def test_labels_become_words(label, name):
    assert region_name(label) == name


def test_names_are_told_apart():
    assert region_names(["a_b", "a b", "c", ""]) == ["a b 1", "a b 2", "c", "region 4"]


def test_the_shipped_atlas_has_a_different_name_for_every_region():
    names = region_names(Atlas.load("schaefer400_tianS3").names)
    assert len(set(names)) == 450
    assert not any("7Networks" in name or "_" in name for name in names)


def test_a_disconnected_region_is_named():
    labels = [f"7Networks_LH_Vis_{i}" for i in range(30)]
    family = DESCRIPTORS["regions"](NETWORKS, names=labels).fit(make_scans(20))
    scan = make_scans(1, seed=5)[0]
    scan[:6] = scan[0] * np.ones((6, 1)) + 0.1 * scan[:6]
    (text,) = family.describe([scan])
    assert "left visual" in text.lower()
    values = family.transform([scan]).iloc[0]
    z = np.arctanh(np.corrcoef(scan) - np.eye(30))[0].sum() / 29
    assert values["region_connectivity__r1"] == pytest.approx(z)
