import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest

from fmrilm.cohort.store import TimeSeriesStore, write_store
from fmrilm.errors import InputError


def _write(path, samples, **more):
    ids = [str(i) for i in range(4)]
    options = {"t_r": 2.0, "atlas": "four", "roi_ids": ids, "source": "test", **more}
    return write_store(path, samples, **options)


@pytest.fixture
def series():
    return np.random.default_rng(0).standard_normal((3, 4, 20)).astype(np.float32)


@pytest.fixture
def path(tmp_path, series):
    path = tmp_path / "x.h5"
    _write(path, [(f"s{i}", "ä1", one) for i, one in enumerate(series)])
    return path


def test_what_is_written_is_read(path, series):
    store = TimeSeriesStore(path)
    assert len(store) == 3
    assert store.subjects == ["s0", "s1", "s2"]
    assert store.sessions == ["ä1"] * 3
    assert (store.t_r, store.atlas, store.source) == (2.0, "four", "test")
    for index in range(3):
        found, mask = store.read(index)
        np.testing.assert_array_equal(found, series[index])
        assert mask.all()


def test_the_layout_of_the_original_is_enough(tmp_path, series):
    path = tmp_path / "original.h5"
    with h5py.File(path, "w") as handle:
        for i, one in enumerate(series):
            handle.create_dataset(f"time_series/sample_{i}", data=one, compression="gzip")
        handle.create_dataset("metadata/subjects", data=np.array([b"a", b"b", b"c"]))
        handle.create_dataset("metadata/sessions", data=np.array([b"1", b"1", b"1"]))
    store = TimeSeriesStore(path)
    assert store.subjects == ["a", "b", "c"]
    assert store.t_r is None
    assert store.roi_ids is None
    np.testing.assert_array_equal(store.read(2)[0], series[2])


def test_absent_and_constant_regions_are_masked(tmp_path, series):
    series[0, 1], series[0, 2] = np.nan, 5.0
    _write(tmp_path / "x.h5", [("a", "1", series[0])])
    found, mask = TimeSeriesStore(tmp_path / "x.h5").read(0)
    assert mask.tolist() == [True, False, False, True]
    assert np.isfinite(found).all()


def test_values_whose_squares_overflow_name_the_sample(tmp_path, series):
    series[1] *= 1e20
    _write(tmp_path / "x.h5", [("a", "1", series[0]), ("b", "7", series[1])])
    with pytest.raises(InputError, match=r"sample_1 \(subject b, session 7\) holds values up to"):
        TimeSeriesStore(tmp_path / "x.h5").read(1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_or_inf_inside_a_region_names_the_sample(value, tmp_path, series):
    series[1, 2, 3] = value
    _write(tmp_path / "x.h5", [("a", "1", series[0]), ("b", "7", series[1])])
    with pytest.raises(InputError, match=r"sample_1 \(subject b, session 7\) holds NaN or Inf"):
        TimeSeriesStore(tmp_path / "x.h5").read(1)


def test_another_number_of_regions_is_refused(tmp_path, path, series):
    with h5py.File(path, "r+") as handle:
        del handle["time_series/sample_1"]
        handle["time_series/sample_1"] = series[1, :3]
    with pytest.raises(InputError, match="has 3 regions, sample_0 has 4"):
        TimeSeriesStore(path).read(1)
    with pytest.raises(InputError, match="has 3 regions, expected 4"):
        _write(tmp_path / "y.h5", [("a", "1", series[1, :3])])
    assert not (tmp_path / "y.h5").exists()


def test_twice_the_same_id_is_refused(tmp_path, path, series):
    with pytest.raises(InputError, match="subject a session 1 occurs twice"):
        _write(tmp_path / "y.h5", [("a", "1", series[0]), ("a", "1", series[1])])
    with h5py.File(path, "r+") as handle:
        handle["metadata/subjects"][...] = [b"s0", b"s0", b"s2"]
    with pytest.raises(InputError, match="subject s0 session ä1 occurs twice"):
        TimeSeriesStore(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="fmrilm simulate"):
        TimeSeriesStore(tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match="not an HDF5 file"):
        TimeSeriesStore(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as handle:
        handle["data"] = [1, 2]
    with pytest.raises(InputError, match="time_series"):
        TimeSeriesStore(tmp_path / "other.h5")


def test_ids_and_series_must_be_as_many(path):
    with h5py.File(path, "r+") as handle:
        del handle["time_series/sample_2"]
    with pytest.raises(InputError, match="2 series but 3 subjects"):
        TimeSeriesStore(path)


def test_more_metadata_is_filled_while_writing(tmp_path, series):
    marks: list[str] = []

    def samples():
        for i, one in enumerate(series):
            marks.append(f"mark{i}")
            yield f"s{i}", "1", one

    _write(tmp_path / "x.h5", samples(), extra={"marks": marks, "shares": np.eye(3), "note": "n"})
    store = TimeSeriesStore(tmp_path / "x.h5")
    assert store.extra("marks").tolist() == ["mark0", "mark1", "mark2"]
    np.testing.assert_array_equal(store.extra("shares"), np.eye(3))
    assert store.extra("note") == "n"
    assert store.extra("nothing") is None


def test_a_store_may_be_sent_to_another_process(path, series):
    store = pickle.loads(pickle.dumps(TimeSeriesStore(path)))
    np.testing.assert_array_equal(store.read(1)[0], series[1])


def test_a_full_disk_is_an_error_and_no_crash(tmp_path):
    """HDF5 ends the process with SIGSEGV when it closes a file that it could not write."""
    code = (
        "import resource, sys, numpy as np\nfrom fmrilm.cohort.store import write_store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "scans = ((f's{i}', '1', np.zeros((3, 320))) for i in range(40))\n"
        "write_store(sys.argv[1], scans, t_r=2.0, atlas='x', roi_ids=list('abc'),"
        " source='SYNTHETIC')"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "store.h5")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1, done.returncode
    assert "File too large" in done.stderr
    assert not (tmp_path / "store.h5").exists()
