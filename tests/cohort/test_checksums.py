import os
import shutil
import time

import h5py
import numpy as np
import pandas as pd
import pytest

from fmrilm.cohort import checksums
from fmrilm.cohort.checksums import edited, read_checksums
from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.labels import write_table
from fmrilm.cohort.store import TimeSeriesStore
from fmrilm.hashing import checksum
from small import make_cohort

STORE = "data_resampled.h5"


@pytest.fixture
def folder(tmp_path):
    return make_cohort(tmp_path / "cohort")


def change(folder, index: int, keep_times: bool = False) -> None:
    """Write other numbers over one series, as an editor of HDF5 would."""
    state = (folder / STORE).stat()
    with h5py.File(folder / STORE, "r+") as handle:
        handle[f"time_series/sample_{index}"][0, 0] += 1
    if keep_times:
        os.utime(folder / STORE, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize("index", [0, 7, 39])
def test_a_change_of_any_scan_changes_the_fingerprint(folder, index):
    before = Cohort(folder).fingerprints()
    assert Cohort(folder).fingerprints() == before
    change(folder, index)
    after = Cohort(folder).fingerprints()
    assert [name for name in before if before[name] != after[name]] == ["scans"]
    assert edited(TimeSeriesStore(folder / STORE)) == [index]


def test_a_change_is_noticed_though_size_and_time_are_put_back(folder):
    before = Cohort(folder).fingerprint()
    time.sleep(0.02)
    change(folder, 3, keep_times=True)
    assert Cohort(folder).fingerprint() != before


def test_what_is_written_with_a_store_is_what_is_read_from_it(folder):
    store = TimeSeriesStore(folder / STORE)
    recorded = store.extra("checksums")
    assert len(set(recorded)) == len(store) == 40
    assert recorded.tolist() == read_checksums(store)
    assert recorded[4] == checksum(store.raw(4))
    assert edited(store) == []


def test_absent_regions_and_the_shape_count():
    series = np.zeros((4, 6), np.float32)
    absent = series.copy()
    absent[1] = np.nan
    assert len({checksum(one) for one in (series, absent, series.reshape(6, 4))}) == 3


def test_a_foreign_store_is_read_once_and_never_written_to(folder, monkeypatch):
    with h5py.File(folder / STORE, "r+") as handle:
        del handle["metadata/checksums"]
    old = time.time() - 100
    monkeypatch.setattr(checksums, "_SETTLED", -1)
    os.utime(folder / STORE, (old, old))
    content = (folder / STORE).read_bytes()
    first = read_checksums(TimeSeriesStore(folder / STORE))
    checksums._known.clear()
    monkeypatch.setattr(checksums, "_compute", lambda store: pytest.fail("read again"))
    assert read_checksums(TimeSeriesStore(folder / STORE)) == first
    assert (folder / STORE).read_bytes() == content
    assert edited(TimeSeriesStore(folder / STORE)) == []


def test_nothing_is_written_into_a_folder_that_is_read_only(folder, monkeypatch):
    monkeypatch.setattr(checksums, "_SETTLED", -1)
    monkeypatch.setattr(os, "access", lambda *given: False)
    before = sorted(folder.iterdir())
    assert len(read_checksums(TimeSeriesStore(folder / STORE))) == 40
    assert sorted(folder.iterdir()) == before


def test_a_copy_of_a_cohort_has_the_same_fingerprint(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    assert Cohort(tmp_path / "copy").fingerprints() == Cohort(folder).fingerprints()


def test_labels_and_descriptors_are_hashed_one_by_one(folder):
    from fmrilm.description.describe import describe

    describe(folder, types="fc", gallery=0)
    before = Cohort(folder).fingerprints()
    people = pd.read_csv(folder / "participants.tsv", sep="\t")
    rolled = people.assign(sex=np.roll(people["sex"], 1), site=people["site"])
    write_table(rolled, folder / "participants.tsv")
    table = folder / "descriptors_rewritten/fc_descriptors.csv"
    table.write_text(table.read_text() + "\n")
    after = Cohort(folder).fingerprints()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"labels", "descriptors"}
    labels = before["labels"]
    assert [name for name in labels if labels[name] != after["labels"][name]] == ["sex"]


def test_a_packed_copy_knows_the_series_it_was_made_from(folder, tmp_path):
    from fmrilm.cohort.pack import pack
    from fmrilm.errors import InputError

    pack(str(folder))
    shutil.copytree(folder, tmp_path / "copy")  # other times, the same series
    assert Cohort(tmp_path / "copy")._packed is not None
    time.sleep(0.02)
    change(folder, 12, keep_times=True)
    with pytest.raises(InputError, match="fmrilm pack"):
        Cohort(folder)


def test_a_packed_copy_scaled_by_site_is_not_read_where_sites_changed(folder):
    from fmrilm.cohort.pack import pack

    pack(str(folder), norm="standard_roi+site")
    assert Cohort(folder, "standard_roi+site")._packed is not None
    people = pd.read_csv(folder / "participants.tsv", sep="\t")
    write_table(
        people.assign(site=people["site"].iloc[::-1].to_numpy()), folder / "participants.tsv"
    )
    assert Cohort(folder, "standard_roi+site")._packed is None
