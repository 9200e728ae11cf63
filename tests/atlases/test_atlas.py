import dataclasses

import numpy as np
import pytest

from fmrilm.atlases.atlas import Atlas, shipped_atlases
from fmrilm.cohort.cohort import Cohort, write_info
from fmrilm.cohort.store import write_store
from fmrilm.errors import InputError
from fmrilm.studies.known import CohortInfo


@pytest.mark.parametrize("name", shipped_atlases())
def test_a_shipped_atlas_survives_writing_and_reading(name, tmp_path):
    atlas = Atlas.load(name)
    atlas.to_tsv(tmp_path / f"{name}.tsv")
    again = Atlas.read(tmp_path / f"{name}.tsv")
    assert again == atlas
    np.testing.assert_array_equal(again.centroids, atlas.centroids)
    assert atlas.has_networks
    assert set(atlas.hemispheres) == {"L", "R"}


def test_the_450_regions_are_in_the_order_of_the_original():
    atlas = Atlas.load("schaefer400_tianS3")
    assert list(atlas.labels) == [str(i) for i in range(1, 451)]
    assert set(atlas.networks[:50]) == {"Subcortex"}
    assert "Subcortex" not in atlas.networks[50:]
    left = atlas.centroids[np.array(atlas.hemispheres) == "L", 0]
    assert (left < 2).all()


def test_the_hash_depends_on_order_not_on_the_name():
    atlas = Atlas.load("schaefer400_tianS3")
    assert dataclasses.replace(atlas, name="other") == atlas
    assert atlas.select(atlas.labels[::-1]).content_hash != atlas.content_hash


def test_select_maps_by_label():
    chosen = Atlas.load("schaefer400_tianS3").select(["51", "3"])
    assert chosen.names == ("7Networks_LH_Vis_1", "hippocampus_body-rh")
    assert chosen.centroids[0, 0] == -33


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\n1\t2\n", "needs label and name"),
        ("label\tname\n1\ta\n1\tb\n", "label 1 occurs twice"),
        ("label\tname\tx\n1\ta\tleft\n", "x is 'left'"),
        ("label\tname\n", "no regions"),
    ],
)
def test_a_bad_table_is_refused_in_one_sentence(text, message, tmp_path):
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        Atlas.read(tmp_path / "a.tsv")


def test_a_bids_dseg_table_is_read(tmp_path):
    (tmp_path / "dseg.tsv").write_text("index\tname\n7\tamygdala\n9\tn/a\n")
    atlas = Atlas.read(tmp_path / "dseg.tsv")
    assert atlas.labels == ("7", "9")
    assert not atlas.has_networks
    assert np.isnan(atlas.centroids).all()


def _cohort(folder, labels, atlas="mine"):
    rng = np.random.default_rng(0)
    samples = [(f"{i}", "1", rng.standard_normal((len(labels), 30))) for i in range(10)]
    write_store(
        folder / "data_resampled.h5", samples, t_r=2, atlas=atlas, roi_ids=labels, source="test"
    )
    rows = "\n".join(str(i) for i in range(10))
    (folder / "participants.tsv").write_text(f"participant_id\n{rows}\n")
    write_info(folder, CohortInfo("tiny", "A test."))
    return Cohort(folder)


def test_a_cohort_takes_its_own_table_in_the_order_of_the_store(tmp_path):
    (tmp_path / "atlas.tsv").write_text("label\tname\tnetwork\n1\ta\tA\n2\tb\tB\n3\tc\tC\n")
    assert _cohort(tmp_path, ["3", "1"]).atlas.names == ("c", "a")


def test_a_cohort_takes_the_shipped_table_that_its_store_names(tmp_path):
    cohort = _cohort(tmp_path, ["450", "1"], "schaefer400_tianS3")
    assert cohort.atlas.networks == ("Default", "Subcortex")


def test_an_unknown_parcellation_has_labels_and_no_networks(tmp_path):
    atlas = _cohort(tmp_path, ["p", "q", "r"]).atlas
    assert atlas.labels == ("p", "q", "r")
    assert not atlas.has_networks


def test_a_table_of_other_regions_is_refused(tmp_path):
    (tmp_path / "atlas.tsv").write_text("label\tname\n1\ta\n2\tb\n")
    with pytest.raises(InputError, match="no region 9"):
        _ = _cohort(tmp_path, ["1", "9"]).atlas


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_table_in_another_encoding_is_read_and_a_short_row_is_named(encoding, tmp_path):
    path = tmp_path / "atlas.tsv"
    path.write_bytes("label\tname \n1\tInsula größer\n2\tb\n".encode(encoding))
    assert Atlas.read(path).names == ("Insula größer", "b")
    path.write_text("label\tname\n1\ta\n2\n")
    with pytest.raises(InputError, match="line 3 has 1 columns"):
        Atlas.read(path)
