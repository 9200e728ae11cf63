"""Kill every long job at random moments and see that nothing is lost.

    python benchmarks/kills.py --kills 60 --seed 0

A job (prepare, describe, the three stages of training, evaluate, benchmark) is killed by SIGKILL at
a random moment, the same command is given again, and what it leaves is compared bit by bit with
that of an uninterrupted job. Some rounds start a second process in the same folder (one of both
must be refused), some meet a disk that fills up (no file may grow beyond some size). SYNTHETIC
scans of a small study; two epochs of a tiny model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py

REFUSED = 2
MODEL = [
    "model.vq_model.enc_cls=vit_tiny", "model.vq_model.n_embd=16", "model.vq_model.n_head=2",
    "model.vq_model.n_layer=1", "model.vq_model.num_rois=24", "model.vq_model.num_timestamp=40",
    "model.vq_model.patch_size=20", "model.vq_model.codebook_size=32", "model.vq_model.code_dim=8",
    "model.lm.base_model=tiny", "train.epochs=6", "train.batch_size=4",
    "train.checkpoint_every=1", "data.desc_type=[fc]",
]  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A command, what it starts from, and a hash of what it leaves."""

    name: str
    words: list[str]
    result: Callable[[Path], str]
    makes: str = ""  # folder that is deleted before the job begins

    def again(self, root: Path) -> list[str]:
        """The words that go on after an interruption."""
        if self.words[0] != "train":
            return self.words
        has_checkpoint = any((root / self.makes / "checkpoints").glob("epoch-*"))
        return [*self.words, "--resume" if has_checkpoint else "--overwrite"]


def hash_files(folder: Path, *patterns: str) -> str:
    """A hash of the names and contents of files."""
    digest = hashlib.sha256()
    for path in sorted(p for pattern in patterns for p in folder.glob(pattern)):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def hash_store(root: Path) -> str:
    digest = hashlib.sha256()
    with h5py.File(root / "cohort/data_resampled.h5") as handle:
        for name in sorted(handle["time_series"]):
            digest.update(handle[f"time_series/{name}"][...].tobytes())
    return digest.hexdigest() + hash_files(root / "cohort", "*.tsv", "cohort.yaml")


def hash_model(run: str) -> Callable[[Path], str]:
    return lambda root: hash_files(root / run, "model/**/*.safetensors")


def hash_scores(root: Path) -> str:
    """A hash of all numbers of an evaluation: predictions, and metrics without their times."""
    folder = root / "instruct/evaluation"
    text = json.dumps(_timeless(json.loads((folder / "metrics.json").read_text())), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest() + hash_files(folder, "*.tsv", "*.csv")


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in ("reading", "readings", "seconds")}
        return {key: _timeless(inner) for key, inner in kept.items()}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def jobs(root: Path) -> list[Job]:
    """All jobs, in the order in which they need each other."""
    study, cohort = root / "study", str(root / "cohort")
    train = [*MODEL, f"data.dataset_dir=[{cohort}]"]
    return [
        Job("prepare", ["prepare", f"{study}/derivatives/fmriprep", "-o", cohort,
                        f"atlas={study}/atlas.tsv", f"atlas_image={study}/atlas.nii.gz",
                        "n_timepoints=40", "strategy=none"], hash_store, makes="cohort"),
        Job("describe", ["describe", cohort, "--types", "fc", "--jobs", "1", "--gallery", "0"],
            lambda r: hash_files(r / "cohort/descriptors_rewritten", "*.csv"),
            makes="cohort/descriptors_rewritten"),
        Job("tokenizer", ["train", "tokenizer", "-o", str(root / "tok"), *train],
            hash_model("tok"), makes="tok"),
        Job("align", ["train", "align", "-o", str(root / "align"), "--init", str(root / "tok"),
                      *train], hash_model("align"), makes="align"),
        Job("instruct", ["train", "instruct", "-o", str(root / "instruct"), "--init",
                         str(root / "align"), *train, "instruct.tasks=[sex]"],
            hash_model("instruct"), makes="instruct"),
        Job("evaluate", ["evaluate", str(root / "instruct"), "--datasets", cohort], hash_scores,
            makes="instruct/evaluation"),
        Job("benchmark", ["benchmark", str(root / "instruct"), "-o", str(root / "page")],
            lambda r: str((r / "page/benchmark.json").is_file()), makes="page"),
    ]  # fmt: skip


def start(words: list[str], largest: int | None = None) -> subprocess.Popen:
    def limit() -> None:
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "fmrilm", *words], env=env, preexec_fn=limit, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def run(words: list[str]) -> float:
    """Run a command to its end; seconds it took."""
    began = time.perf_counter()
    process = start(words)
    _, said = process.communicate()
    if process.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(words)}\n{said}")
    return time.perf_counter() - began


def kill(process: subprocess.Popen) -> bool:
    """Kill a process and all it started; whether it was still running."""
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return alive


def one_round(job: Job, root: Path, seconds: float, expected: str, draw: random.Random) -> str:
    """Interrupt a job in one way and finish it; what happened, in a word."""
    shutil.rmtree(root / job.makes, ignore_errors=True)
    way = draw.choice(["kill", "kill", "kill", "two", "disk"])
    if way == "disk":
        largest = int(10 ** draw.uniform(2, 5.5))
        _, said = (process := start(job.words, largest)).communicate()
        if process.returncode not in (0, REFUSED, 3) or "Traceback" in said:
            return f"disk: exit {process.returncode}: {said[-300:]}"
    elif way == "two":
        first, second = start(job.words), start(job.words)
        said = [process.communicate()[1] for process in (first, second)]
        if any("Traceback" in text for text in said):
            return f"two: {said[0][-200:]} | {said[1][-200:]}"
    else:
        for _ in range(draw.randint(1, 3)):
            process = start(job.again(root))
            time.sleep(draw.uniform(0.5, 1.1 * seconds))
            if not kill(process):
                break
    last = start(job.again(root))
    _, said = last.communicate()
    finished = "holds a run" in said or "nothing to do" in said
    if last.returncode not in (0, 3) and not finished:
        return f"{way}: exit {last.returncode}: {said[-300:]}"
    return way if job.result(root) == expected else f"{way}: OTHER RESULT"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=60, help="rounds over all jobs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", default="", help="names, comma-separated; all")
    given = parser.parse_args()
    draw = random.Random(given.seed)
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    from make_study import make_study

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        make_study(root / "study", subjects=24)
        every = jobs(root)
        seconds = {job.name: run(job.words) for job in every}
        expected = {job.name: job.result(root) for job in every}
        print("uninterrupted:", ", ".join(f"{n} {s:.1f} s" for n, s in seconds.items()), flush=True)
        shutil.copytree(root, kept := root.parent / f"{root.name}-kept")
        chosen = [job for job in every if not given.jobs or job.name in given.jobs.split(",")]
        counts: Counter[str] = Counter()
        for number in range(given.kills):
            job = chosen[number % len(chosen)]
            outcome = one_round(job, root, seconds[job.name], expected[job.name], draw)
            counts[outcome.split(":")[0] if ":" not in outcome else "LOST"] += 1
            if ":" in outcome:
                print(f"{job.name}: {outcome}", flush=True)
            shutil.rmtree(root)
            shutil.copytree(kept, root)  # the next job starts from what was uninterrupted
        shutil.rmtree(kept)
    print(f"{given.kills} rounds, seed {given.seed}: {dict(counts)}")
    sys.exit(1 if counts["LOST"] else 0)


if __name__ == "__main__":
    main()
