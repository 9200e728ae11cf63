import json
import os
import pickle
import socket
import time

import numpy as np
import pytest

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.pack import pack
from fmrilm.cohort.store import write_store
from fmrilm.errors import InputError
from fmrilm.files import LOCK


def _cohort(folder, seed=0):
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(20):
        series = rng.standard_normal((6, 30 + i)).astype(np.float32) * 5 + 100
        series[i % 6] = np.nan if i % 2 else 3.0
        samples.append((f"s{i}", "1", series))
    ids = [str(i) for i in range(6)]
    write_store(folder / "data_resampled.h5", samples, t_r=2, atlas="six", roi_ids=ids, source="t")
    rows = "\n".join(f"s{i}\t{'ab'[i % 2]}" for i in range(20))
    (folder / "participants.tsv").write_text(f"participant_id\tsite\n{rows}\n")
    return folder


@pytest.mark.parametrize("norm", ["robust_roi", "robust_global", "standard_roi+site", "none"])
def test_a_packed_cohort_reads_the_same(norm, tmp_path):
    plain = Cohort(_cohort(tmp_path), norm)
    before = [plain.read(i) for i in range(len(plain))]
    pack(str(tmp_path), norm=norm)
    packed = Cohort(tmp_path, norm)
    assert packed._packed is not None
    for i, (series, mask) in enumerate(before):
        again, mask_again = packed.read(i)
        np.testing.assert_array_equal(again, series)
        np.testing.assert_array_equal(mask_again, mask)
    copy = pickle.loads(pickle.dumps(packed))
    np.testing.assert_array_equal(copy.read(3)[0], before[3][0])


def test_what_is_read_may_be_changed_without_changing_the_copy(tmp_path):
    pack(str(_cohort(tmp_path)))
    cohort = Cohort(tmp_path)
    cohort.read(0)[0][:] = 99
    cohort.read(0)[1][:] = False
    assert cohort.read(0)[1].any()
    assert cohort.read(0)[0].max() < 99


def test_another_scaling_does_not_use_the_copy(tmp_path):
    pack(str(_cohort(tmp_path)))
    assert Cohort(tmp_path, "standard_roi")._packed is None


def test_a_store_that_changed_is_noticed(tmp_path):
    pack(str(_cohort(tmp_path)))
    _cohort(tmp_path, seed=1)
    with pytest.raises(InputError, match="run `fmrilm pack"):
        Cohort(tmp_path)
    pack(str(tmp_path))
    Cohort(tmp_path)


def test_scans_without_a_signal_are_named(tmp_path, capsys):
    flat = np.full((6, 30), 3, np.float32)
    alive = np.random.default_rng(0).standard_normal((6, 30)).astype(np.float32)
    ids = [str(i) for i in range(6)]
    samples = [(f"s{i}", "1", flat if i in (1, 2) else alive) for i in range(20)]
    path = tmp_path / "data_resampled.h5"
    write_store(path, samples, t_r=2, atlas="six", roi_ids=ids, source="t")
    rows = "\n".join(f"s{i}" for i in range(20))
    (tmp_path / "participants.tsv").write_text(f"participant_id\n{rows}\n")
    pack(str(tmp_path), norm="none")
    assert "note: 2 of 20 scans have no region with a signal (s1, s2)" in capsys.readouterr().err


def test_a_cohort_is_packed_by_one_process_at_a_time(tmp_path):
    _cohort(tmp_path)
    other = {"host": socket.gethostname(), "pid": os.getppid(), "started": time.time()}
    (tmp_path / LOCK).write_text(json.dumps(other))
    begun = tmp_path / "data_packed.partial" / "series.npy"
    begun.parent.mkdir()
    begun.write_bytes(b"what the other process has written")
    with pytest.raises(InputError, match=f"written to by process {os.getppid()}"):
        pack(str(tmp_path))
    assert begun.read_bytes() == b"what the other process has written"
    (tmp_path / LOCK).unlink()
    assert (pack(str(tmp_path)) / "series.npy").is_file()
    assert not (tmp_path / LOCK).exists()
