"""Stores and MAT files as other programs write them, and those that point at other files."""

import h5py
import numpy as np
import pytest

from fmrilm.cohort.store import TimeSeriesStore
from fmrilm.errors import InputError
from fmrilm.preparation.sources.read import ScanFile, read_series
from fmrilm.preparation.sources.region_tables import by_order
from preparation.sources.test_region_tables import make_atlas

ROIS, POINTS = 6, 20


@pytest.fixture
def series():
    return np.random.default_rng(0).integers(1, 90, (3, ROIS, POINTS)).astype(np.float32)


def write(path, series, subjects=("a", "b", "c"), t_r=2.0, **options):
    with h5py.File(path, "w") as handle:
        for index, values in enumerate(series):
            handle.create_dataset(f"time_series/sample_{index}", data=values, **options)
        handle["metadata/subjects"] = subjects
        if t_r is not None:
            handle["metadata/t_r"] = t_r
    return path


@pytest.mark.parametrize("dtype", ["f2", ">f4", "i2", "f8", "u1"])
@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_every_number_and_usual_compression_is_read(dtype, compression, tmp_path, series):
    path = write(tmp_path / "x.h5", series.astype(dtype), compression=compression)
    found, mask = TimeSeriesStore(path).read(1)
    np.testing.assert_array_equal(found, series[1])
    assert found.dtype == np.float32
    assert mask.all()


@pytest.mark.parametrize("t_r", [2, [2.0], [[2.0]], "2.0", [b"2"], [2.0, 2.0, 2.0]])
def test_a_tr_in_brackets_is_a_tr(t_r, tmp_path, series):
    assert TimeSeriesStore(write(tmp_path / "x.h5", series, t_r=t_r)).t_r == 2


@pytest.mark.parametrize("t_r", [[2.0, 3.0], "fast", np.nan, -2.0, 0.0, [np.inf]])
def test_what_is_no_tr_is_one_sentence(t_r, tmp_path, series):
    with pytest.raises(InputError, match=r"t_r is .*, expected one number of seconds"):
        TimeSeriesStore(write(tmp_path / "x.h5", series, t_r=t_r))


@pytest.mark.parametrize(
    ("subjects", "wanted"),
    [
        (np.arange(1, 4), ["1", "2", "3"]),
        (np.arange(1.0, 4), ["1", "2", "3"]),
        (np.array([["a"], ["b"], ["c"]], "S4"), ["a", "b", "c"]),
        (["site/ü1", "site/ü2", "site/ü3"], ["site/ü1", "site/ü2", "site/ü3"]),
    ],
)
def test_ids_of_any_kind_become_words(subjects, wanted, tmp_path, series):
    assert TimeSeriesStore(write(tmp_path / "x.h5", series, subjects)).subjects == wanted


@pytest.mark.parametrize(
    ("subjects", "message"),
    [
        (np.array(["ä1", "ä2", "ä3"], object), None),
        (np.array([b"\xe41", b"\xe42", b"\xe43"]), "text that is not UTF-8"),
        (np.array([["a", "b"], ["c", "d"]], "S1"), r"shape \(2, 2\), expected one value"),
    ],
)
def test_ids_that_cannot_be_read_are_one_sentence(subjects, message, tmp_path, series):
    if message is None:
        subjects = [str(subject) for subject in subjects]
        assert TimeSeriesStore(write(tmp_path / "x.h5", series, subjects)).subjects == subjects
        return
    with pytest.raises(InputError, match=message):
        TimeSeriesStore(write(tmp_path / "x.h5", series, subjects))


def test_a_filter_that_is_not_installed_is_one_sentence(tmp_path, series):
    path = write(tmp_path / "x.h5", series)
    with h5py.File(path, "r+") as handle:
        del handle["time_series/sample_1"]
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk((ROIS, POINTS))
        settings.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        space = h5py.h5s.create_simple((ROIS, POINTS))
        group = handle["time_series"].id
        data = h5py.h5d.create(group, b"sample_1", h5py.h5t.IEEE_F32LE, space, settings)
        data.write_direct_chunk((0, 0), series[1].tobytes(), 0)
    with pytest.raises(InputError, match=r"sample_1 is compressed by HDF5 filter 32015.*gzip"):
        TimeSeriesStore(path).read(1)


def link_outside(kind, handle, name, secret):
    """Make ``name`` of an open file show what lies in another file of the machine."""
    if name in handle:
        del handle[name]
    shape = (ROIS, POINTS)
    if kind == "external link":
        handle[name] = h5py.ExternalLink(secret, "data")
    elif kind == "soft link":
        handle["door"] = h5py.ExternalLink(secret, "data")
        handle[name] = h5py.SoftLink("/door")
    elif kind == "soft circle":
        handle["door"] = h5py.SoftLink(f"/{name}")
        handle[name] = h5py.SoftLink("/door")
    elif kind == "virtual":
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource(secret, "data", shape)
        handle.create_virtual_dataset(name, layout)
    else:
        handle.create_dataset(name, shape, "f4", external=[(secret, 0, h5py.h5f.UNLIMITED)])


KINDS = ["external link", "soft link", "soft circle", "virtual", "raw data"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["time_series/sample_1", "metadata/coverage"])
def test_nothing_of_another_file_is_read(kind, name, tmp_path, series):
    with h5py.File(tmp_path / "secret.h5", "w") as handle:
        handle["data"] = series[0]
    path = write(tmp_path / "x.h5", series)
    with h5py.File(path, "r+") as handle:
        link_outside(kind, handle, name, str(tmp_path / "secret.h5"))
    store = TimeSeriesStore(path)
    with pytest.raises(InputError, match=f"{name} is a link to another file"):
        store.read(1) if "sample" in name else store.extra("coverage")


@pytest.mark.parametrize("name", ["time_series", "metadata", "metadata/subjects"])
def test_a_store_whose_groups_lie_elsewhere_is_refused(name, tmp_path, series):
    write(tmp_path / "secret.h5", series)
    path = write(tmp_path / "x.h5", series)
    with h5py.File(path, "r+") as handle:
        del handle[name]
        handle[name] = h5py.ExternalLink(str(tmp_path / "secret.h5"), name)
    with pytest.raises(InputError, match="is a link to another file"):
        TimeSeriesStore(path)


def test_soft_links_inside_the_file_are_followed(tmp_path, series):
    path = write(tmp_path / "x.h5", series)
    with h5py.File(path, "r+") as handle:
        handle.move("time_series/sample_1", "kept")
        handle["time_series/sample_1"] = h5py.SoftLink("/kept")
        handle.move("metadata", "about")
        handle["metadata"] = h5py.SoftLink("about")
    store = TimeSeriesStore(path)
    np.testing.assert_array_equal(store.read(1)[0], series[1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((ROIS, POINTS, 2)), "has the shape"),
        (np.zeros((0, POINTS)), "has the shape"),
        (np.zeros((ROIS, POINTS), complex), "complex128 values, not numbers"),
        (np.full((ROIS, POINTS), b"x"), "values, not numbers"),
    ],
)
def test_series_that_are_none_are_one_sentence(values, message, tmp_path, series):
    path = write(tmp_path / "x.h5", series)
    with h5py.File(path, "r+") as handle:
        del handle["time_series/sample_1"]
        handle["time_series/sample_1"] = values
    with pytest.raises(InputError, match=message):
        TimeSeriesStore(path).read(1)


def test_a_mat_file_of_version_7_3_is_read_and_follows_no_link(tmp_path, series):
    atlas = make_atlas()
    path = tmp_path / "x.mat"
    header = b"MATLAB 7.3 MAT-file".ljust(116) + b"\0" * 8 + b"\x00\x02IM"
    with h5py.File(path, "w", userblock_size=512) as handle:
        handle["ROISignals"] = series[0]
        handle["TR"] = [[2.0]]
    with path.open("r+b") as file:
        file.write(header)
    np.testing.assert_array_equal(read_series(ScanFile("s", "1", path), atlas).series, series[0])
    with h5py.File(tmp_path / "secret.h5", "w") as handle:
        handle["data"] = series[1]
    with h5py.File(path, "r+") as handle:
        del handle["ROISignals"]
        handle["ROISignals"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "data")
    with pytest.raises(InputError, match="ROISignals is a link to another file"):
        read_series(ScanFile("s", "1", path), atlas)


@pytest.mark.parametrize("values", [np.zeros((6, 9), complex), np.full((6, 9), "x"), np.zeros(6)])
def test_arrays_that_are_no_series_are_refused(values, tmp_path):
    with pytest.raises(InputError, match=r"not numbers|dimensions"):
        by_order(values, make_atlas(), tmp_path / "x.npy")


def test_damaged_arrays_are_refused(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((6, 9)))
    whole = path.read_bytes()
    promise = whole.replace(b"(6, 9), ", b"(6, 9" + b"0" * 11 + b"), "[:-8])
    for content in (b"", whole[:200], whole[:60], promise):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            read_series(ScanFile("s", "1", path), make_atlas())
    np.savez(path.with_suffix(".npz"), a=np.zeros((6, 9)))
    path.write_bytes(path.with_suffix(".npz").read_bytes())
    with pytest.raises(InputError, match="archive"):
        read_series(ScanFile("s", "1", path), make_atlas())
