"""Two processes do not write into one folder; what a killed one left is taken over."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

import pytest

from fmrilm.errors import InputError
from fmrilm.files import LOCK
from fmrilm.locks import writing


def test_the_lock_is_gone_afterwards_whatever_happened(tmp_path):
    with contextlib.suppress(ValueError), writing(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).is_file()
        raise ValueError("x")
    assert not (tmp_path / "run" / LOCK).exists()


def test_the_process_that_holds_a_folder_may_enter_again(tmp_path):
    with writing(tmp_path):
        with writing(tmp_path):
            pass
        assert (tmp_path / LOCK).is_file()


def test_a_second_process_is_refused_and_told_which_is_the_first(tmp_path):
    held = subprocess.Popen(
        [sys.executable, "-c", "import sys, time\nfrom fmrilm.locks import writing\n"
         "with writing(sys.argv[1]):\n print('in', flush=True); time.sleep(60)", str(tmp_path)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert held.stdout is not None
    held.stdout.readline()
    with (
        pytest.raises(InputError, match=f"process {held.pid} on {socket.gethostname()}"),
        writing(tmp_path),
    ):
        pass
    held.kill()
    held.wait()
    with writing(tmp_path):  # what it left is taken over
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_process_number_given_to_another_process_since_holds_nothing(tmp_path):
    gone = {"host": socket.gethostname(), "pid": os.getppid(), "started": 1.0}
    (tmp_path / LOCK).write_text(json.dumps(gone))
    with writing(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_lock_made_at_the_same_moment_is_not_deleted(tmp_path, monkeypatch):
    """Both look, neither sees a lock; the other one writes first."""
    other = {"host": "node7", "pid": 1, "started": time.time()}
    name = socket.gethostname()

    def lose_the_race():
        (tmp_path / LOCK).write_text(json.dumps(other))
        return name

    monkeypatch.setattr("fmrilm.locks.socket.gethostname", lose_the_race)
    with pytest.raises(InputError, match="just begun"), writing(tmp_path):
        pass
    assert json.loads((tmp_path / LOCK).read_text()) == other


def test_a_lock_of_another_machine_is_not_taken_over(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps({"host": "node7", "pid": 1, "started": time.time()}))
    with pytest.raises(InputError, match=r"node7.*delete"), writing(tmp_path):
        pass
    assert (tmp_path / LOCK).is_file()
