"""A command as a process: how it ends, what it leaves behind, and what it needs around it."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fmrilm.files import LOCK
from fmrilm.run_record import read_lineage
from small import TINY_MODEL, make_cohort

LONG = ["train.epochs=4000", "train.checkpoint_every=1"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    from fmrilm.description.describe import describe

    folder = make_cohort(tmp_path_factory.mktemp("processes") / "cohort", subjects=20)
    describe(folder, types="fc", gallery=0)
    return folder


def command(cohort: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "fmrilm", "train", "tokenizer", "-o", str(output), *TINY_MODEL,
            f"data.dataset_dir=[{cohort}]", *more]  # fmt: skip


def start(words, **options) -> subprocess.Popen:
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            **options)  # fmt: skip


def when(condition, process, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(("sent", "code", "word"), [
    (signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted"),
])  # fmt: skip
def test_a_training_that_is_told_to_end_says_one_line_and_leaves_nothing_running(
    cohort, tmp_path, sent, code, word
):
    run = tmp_path / "run"
    process = start(command(cohort, run, *LONG))
    when(lambda: any(run.glob("checkpoints/epoch-*")), process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(sent)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert f"fmrilm: {word}; the same command goes on where it can" in said
    assert not (run / LOCK).exists()
    assert not [child for child in children if child.is_running()]
    numbers = [process.pid, *(child.pid for child in children)]
    left = [name for name in os.listdir("/dev/shm") for pid in numbers if f"_{pid}_" in name]
    assert not left
    epochs = int(sorted(p.name for p in (run / "checkpoints").glob("epoch-*"))[-1][-4:])
    more = command(cohort, run, f"train.epochs={epochs + 1}", "train.checkpoint_every=1")
    subprocess.run([*more, "--resume"], check=True, capture_output=True)


def test_two_trainings_into_one_folder(cohort, tmp_path):
    run = tmp_path / "run"
    first = start(command(cohort, run, *LONG))
    when(lambda: (run / LOCK).is_file(), first)
    second = subprocess.run(command(cohort, run), capture_output=True, text=True)
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert f"is written to by process {first.pid}" in " ".join(second.stderr.split())
    third = subprocess.run(command(cohort, run, "--overwrite"), capture_output=True, text=True)
    assert third.returncode == 0, third.stderr
    assert "which has ended: taken over" in " ".join(third.stderr.split())


def test_files_have_the_mode_of_the_umask_and_git_is_not_needed(cohort, tmp_path):
    words = command(cohort, tmp_path / "run", "train.epochs=1")
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PATH": "/nowhere"},
                   preexec_fn=lambda: os.umask(0o027))  # fmt: skip
    modes = {p: p.stat().st_mode & 0o777 for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert len(modes) > 10
    assert set(modes.values()) == {0o640}
    assert read_lineage(tmp_path / "run")["code_version"].startswith("0.")


@pytest.mark.parametrize("size", [300, 3000, 60_000])
def test_a_full_disk_is_one_sentence_and_goes_on_afterwards(cohort, tmp_path, size):
    """No file may be larger than ``size`` bytes: stands in for a disk that fills up."""
    words = command(cohort, tmp_path / "run", "train.epochs=1")
    full = subprocess.run(
        words, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )  # fmt: skip
    assert full.returncode == 2, full.stderr
    assert "Traceback" not in full.stderr
    assert full.stderr.count("fmrilm: ") == 1
    again = subprocess.run([*words, "--overwrite"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
