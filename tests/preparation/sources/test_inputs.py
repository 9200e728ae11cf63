from pathlib import Path

import numpy as np
import pytest

from fmrilm.atlases.atlas import Atlas
from fmrilm.cohort.store import write_store
from fmrilm.errors import InputError
from fmrilm.preparation.sources.read import ScanFile, by_name, read_series

NAMES = ("a_L", "b_L", "a_R", "b_R")


@pytest.fixture
def atlas():
    blank = ("",) * 4
    return Atlas("four", ("11", "12", "21", "22"), NAMES, blank, blank, np.full((4, 3), np.nan))


@pytest.fixture
def series():
    return np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)


def _read(path, atlas, **options):
    return read_series(ScanFile("s", "1", path), atlas, **options)


def _write_table(path, names, rows, separator="\t"):
    lines = [separator.join(names)] if names else []
    lines += [separator.join(f"{v:.9g}" for v in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("names", [NAMES, ("11", "12", "21", "22")])
@pytest.mark.parametrize("separator", ["\t", ","])
def test_columns_are_matched_by_name_or_label(names, separator, tmp_path, atlas, series):
    turn = [2, 0, 3, 1]
    path = _write_table(tmp_path / "x.tsv", [names[i] for i in turn], series[turn].T, separator)
    if names is not NAMES:  # numbers in another order than the atlas look like data
        turn = [0, 1, 2, 3]
        path = _write_table(tmp_path / "x.tsv", names, series.T, separator)
    np.testing.assert_allclose(_read(path, atlas).series, series, rtol=1e-6)


def test_missing_and_foreign_columns_are_noted(tmp_path, atlas, series):
    names = ["GlobSig", "b_R", "a_L"]
    path = _write_table(tmp_path / "x.csv", names, series[[0, 3, 0]].T, ",")
    found = _read(path, atlas)
    assert found.coverage.tolist() == [1, 0, 0, 1]
    assert np.isnan(found.series[1]).all()
    np.testing.assert_allclose(found.series[3], series[3], rtol=1e-6)
    assert len(found.notes) == 2


def test_a_table_without_names_is_taken_in_order_and_says_so(tmp_path, atlas, series):
    found = _read(_write_table(tmp_path / "x.txt", None, series.T, " "), atlas)
    np.testing.assert_allclose(found.series, series, rtol=1e-6)
    assert "order of four" in found.notes[0]


def test_arrays_are_turned_to_regions_by_time(tmp_path, atlas, series):
    from scipy.io import savemat

    np.save(tmp_path / "x.npy", series.T)
    np.testing.assert_array_equal(_read(tmp_path / "x.npy", atlas).series, series)
    savemat(tmp_path / "x.mat", {"ROISignals": series, "TR": 2.0})
    np.testing.assert_array_equal(_read(tmp_path / "x.mat", atlas).series, series)
    savemat(tmp_path / "y.mat", {"a": series, "b": series.T})
    with pytest.raises(InputError, match="variable=NAME"):
        _read(tmp_path / "y.mat", atlas)
    found = _read(tmp_path / "y.mat", atlas, variable="b")
    np.testing.assert_array_equal(found.series, series)


def test_a_store_of_the_original_is_read_by_region_id(tmp_path, atlas, series):
    path = tmp_path / "data_resampled.h5"
    ids = ["22", "21", "12", "11"]
    write_store(path, [("x", "1", series[::-1])], t_r=2, atlas="four", roi_ids=ids, source="test")
    found = read_series(ScanFile("x", "1", path, index=0), atlas)
    np.testing.assert_array_equal(found.series, series)
    assert found.t_r == 2


def test_ptseries_are_matched_by_parcel_name(tmp_path, atlas, series):
    nib = pytest.importorskip("nibabel", reason="needs fmrilm[imaging]")
    from nibabel.cifti2 import ParcelsAxis, SeriesAxis

    turn = [3, 1, 0, 2]
    voxels = [np.array([[i, 0, 0]]) for i in range(4)]
    axis = ParcelsAxis(
        [NAMES[i] for i in turn], voxels, [{}] * 4, np.eye(4), (10, 10, 10), {}
    )  # fmt: skip
    image = nib.Cifti2Image(series[turn].T, (SeriesAxis(0, 0.8, 9), axis))
    path = tmp_path / "x.ptseries.nii"
    nib.save(image, path)
    found = _read(path, atlas)
    np.testing.assert_array_equal(found.series, series)
    assert found.t_r == pytest.approx(0.8)


def test_dtseries_are_averaged_by_the_names_of_a_label_file(tmp_path, atlas, series):
    nib = pytest.importorskip("nibabel", reason="needs fmrilm[imaging]")
    from nibabel.cifti2 import BrainModelAxis, LabelAxis, SeriesAxis

    cortex = BrainModelAxis.from_mask(np.ones(40, bool), "CortexLeft")
    keys = np.repeat([4, 1, 0, 2], 10)  # region d is nowhere; label 0 is background
    table = {0: ("???", (0,) * 4), 1: ("a_L", (0,) * 4), 2: ("b_L", (0,) * 4), 4: ("a_R", (0,) * 4)}
    labels = nib.Cifti2Image(keys[None].astype(float), (LabelAxis(["l"], [table]), cortex))
    nib.save(labels, tmp_path / "l.dlabel.nii")
    rows = {4: 2, 1: 0, 2: 1, 0: 3}
    dense = np.stack([series[rows[key]] for key in keys])
    part = np.r_[0:10, 14:40]  # the scan has no data in four of the ten vertices of a_L
    mask = np.zeros(40, bool)
    mask[part] = True
    axis = BrainModelAxis.from_mask(mask, "CortexLeft")
    nib.save(
        nib.Cifti2Image(dense[part].T, (SeriesAxis(0, 2, 9), axis)), tmp_path / "x.dtseries.nii"
    )
    found = _read(tmp_path / "x.dtseries.nii", atlas, atlas_image=str(tmp_path / "l.dlabel.nii"))
    np.testing.assert_allclose(found.series[:3], series[:3], rtol=1e-5)
    assert np.isnan(found.series[3]).all()
    np.testing.assert_allclose(found.coverage, [0.6, 1, 1, 0], rtol=1e-6)
    with pytest.raises(InputError, match="dlabel"):
        _read(tmp_path / "x.dtseries.nii", atlas)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tsv", "u\tv\n1\t2\n3\t4\n", "none of its regions"),
        ("x.tsv", "a_L\ta_L\n1\t2\n", "occurs twice"),
        ("x.tsv", "a_L\tb_L\n1\tx\n", "no number"),
        ("x.tsv", "1\t2\n3\t4\n", "has 4 regions"),
        ("x.npy", "text", "cannot be read"),
        ("x.mat", "text", "cannot be read"),
        ("x.doc", "text", "unknown format"),
    ],
)
def test_files_that_do_not_fit_are_refused(name, content, message, tmp_path, atlas):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        _read(tmp_path / name, atlas)


def test_a_square_array_is_refused(tmp_path, atlas):
    np.save(tmp_path / "x.npy", np.ones((4, 4)))
    with pytest.raises(InputError, match="cannot tell regions from time"):
        _read(tmp_path / "x.npy", atlas)


def test_names_in_the_spelling_of_other_programs_and_numbers_where_names_differ():
    atlas = Atlas(
        "x", ("1", "2"), ("7Networks_LH_Vis_1", "hippocampus-rh"), ("", ""), ("", ""),
        np.full((2, 3), np.nan),
    )  # fmt: skip
    series = np.arange(6.0).reshape(2, 3)
    for names in (["Hippocampus_rh", "LH_Vis_1"], ["hippocampus rh", "lh-vis-1"]):
        np.testing.assert_array_equal(
            by_name(names, series, atlas, Path("x.tsv")).series, series[::-1]
        )
    # a seventeen-network parcel of the same number is another one
    with pytest.raises(InputError, match="none of its regions"):
        by_name(["17Networks_LH_Vis_1"], series[:1], atlas, Path("x.tsv"))
    found = by_name(["RH_Hippo", "LH_Vis_1"], series, atlas, Path("x.tsv"), keys=["2", "1"])
    np.testing.assert_array_equal(found.series, series[::-1])
    assert "taken by number" in found.notes[0]
    # names that contradict the numbers, or numbers of another atlas: names alone are believed
    found = by_name(["RH_Hippo", "LH_Vis_1"], series, atlas, Path("x.tsv"), keys=["1", "2"])
    assert np.isnan(found.series[1]).all()
    found = by_name(["RH_Hippo", "LH_Vis_1"], series, atlas, Path("x.tsv"), keys=["7", "1"])
    assert np.isnan(found.series[1]).all()


def test_a_file_without_volumes_is_refused(tmp_path, atlas):
    np.save(tmp_path / "scan.npy", np.zeros((4, 0), np.float32))
    with pytest.raises(InputError, match="holds no volumes"):
        _read(tmp_path / "scan.npy", atlas)
