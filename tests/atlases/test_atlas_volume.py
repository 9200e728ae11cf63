import numpy as np
import pytest

from fmrilm.atlases.atlas import Atlas
from fmrilm.atlases.build import BUILDERS, build_atlas, schaefer_table
from fmrilm.atlases.images import cached_image, centroids, check_labels, find_image, load_atlas
from fmrilm.cli import main
from fmrilm.errors import InputError

nib = pytest.importorskip("nibabel", reason="needs fmrilm[imaging]")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMRILM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.demo_data
@pytest.mark.parametrize("name", ["schaefer400_tianS3", "mist122"])
def test_an_atlas_is_built_from_installed_packages(name, cache):
    try:
        path = build_atlas(name)
    except InputError as error:
        pytest.skip(f"{error} (demo-requirements.txt)")
    assert path == cached_image(name)
    table = load_atlas(name)
    image = nib.load(path)
    labels = np.asarray(image.dataobj)
    assert set(np.unique(labels)) == {0, *map(int, table.labels)}
    found = centroids(labels, image.affine)
    away = [
        np.linalg.norm(found[int(label)] - place)
        for label, place in zip(table.labels, table.centroids, strict=True)
    ]
    assert max(away) < 2.5  # the published places of Schaefer are whole millimetres
    assert find_image(table, None) == path


def test_labels_elsewhere_than_the_table_says_are_refused():
    labels = np.zeros((30, 10, 10), int)
    labels[2:5, 2:5, 2:5], labels[22:25, 2:5, 2:5] = 1, 2
    places = np.array([[3.0, 3, 3], [23, 3, 3]])
    blank = ("", "")
    atlas = Atlas("two", ("1", "2"), ("a", "b"), blank, blank, places)
    check_labels(labels, np.eye(4), atlas)
    with pytest.raises(InputError, match=r"label 1 \(a\) lies 20 mm"):
        check_labels(np.where(labels > 0, 3 - labels, 0), np.eye(4), atlas)
    with pytest.raises(InputError, match="no voxel of label 2"):
        check_labels(np.where(labels == 1, 1, 0), np.eye(4), atlas)


def test_an_atlas_without_its_image_says_how_to_get_it(cache):
    with pytest.raises(InputError, match="fmrilm atlas build schaefer400_tianS3"):
        find_image(Atlas.load("schaefer400_tianS3"), None)
    with pytest.raises(InputError, match="did you mean 'schaefer400_tianS3'"):
        load_atlas("schaefer400_tianS")
    with pytest.raises(InputError, match="--fetch"):
        build_atlas("schaefer200")
    with pytest.raises(InputError, match="known: "):
        build_atlas("nothing")


def test_schaefer_names_give_networks_and_sides():
    table = schaefer_table(["7Networks_LH_Vis_1", "7Networks_RH_SalVentAttn_Med_2"], "x")
    assert table.networks == ("Vis", "SalVentAttn")
    assert table.hemispheres == ("L", "R")
    with pytest.raises(InputError, match="no region name"):
        schaefer_table(["Precentral_L"], "x")


def test_the_command_lists_and_refuses(cache, capsys):
    with pytest.raises(SystemExit) as end:
        main(["atlas", "list"])
    assert end.value.code == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in BUILDERS)
    with pytest.raises(SystemExit) as end:
        main(["atlas", "delete"])
    assert end.value.code == 2


@pytest.mark.parametrize("name", ["/dev/full", "a/b", "../tables/x", "", ".", "..", "/"])
def test_a_path_is_no_name_of_an_atlas(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FMRILM_CACHE", str(tmp_path))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "x.tsv").write_text("label\tname\n1\ta\n")
    with pytest.raises(InputError, match="unknown atlas"):
        load_atlas(name)
