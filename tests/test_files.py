"""Files are whole or not there, also on a full disk."""

import subprocess
import sys

import numpy as np
import pytest

from fmrilm.files import write_array

FULL = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from fmrilm.files import write_array

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    write_array(sys.argv[1], np.ones((16, 11)))
except OSError:
    sys.exit(4)
"""


@pytest.mark.parametrize("room", [0, 60, 128, 860, 1535])
def test_an_array_on_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, room):
    words = [sys.executable, "-c", FULL, str(tmp_path / "a.npy"), str(room)]
    assert subprocess.run(words, env={"PYTHONPATH": ":".join(sys.path)}).returncode == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "values",
    [np.arange(6.0).reshape(2, 3), np.arange(6).reshape(2, 3).T, np.zeros((0, 4), np.float32),
     np.float32(3), np.arange(4, dtype="<i8")[::2]],
)  # fmt: skip
def test_an_array_is_read_back_as_it_was(tmp_path, values):
    write_array(tmp_path / "a.npy", values)
    again = np.load(tmp_path / "a.npy")
    np.testing.assert_array_equal(again, values)
    assert again.dtype == np.asarray(values).dtype
    assert again.shape == np.shape(values)
