"""Two processes train as one does (gloo, through torchrun), and what they write is read by one."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from fmrilm.errors import InputError
from fmrilm.lm.fmrilm import FMRILM
from fmrilm.tokenizer.tokenizer import FMRITokenizer
from fmrilm.training.build import rebuild_objective, train_stage
from fmrilm.training.checkpoints import latest_checkpoint, load_weights
from fmrilm.training.merge import merge
from small import TINY_MODEL

ROOT = Path(__file__).parent.parent.parent
DEEPSPEED = pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs fmrilm[deepspeed]")


def run_two(words: list[str]) -> subprocess.CompletedProcess:
    """Run fmrilm in two processes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    )
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    return subprocess.run(
        [sys.executable, *launch, "fmrilm", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = FMRILM.from_pretrained(folder).state_dict()
    return {name: value for name, value in state.items() if value.is_floating_point()}


def largest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert set(a) == set(b)
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.fixture(scope="module")
def settings(cohort_folder) -> list[str]:
    """Answers of unequal length: the mean over two processes' means is not the mean of all."""
    options = [o for o in TINY_MODEL if not o.startswith(("train.batch", "train.epochs"))]
    options += [f"data.dataset_dir=[{cohort_folder}]", "instruct.use_random_prompt=false"]
    return [*options, "train.epochs=2", "instruct.tasks=[sex,age]", "train.select_best=false"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, settings, runs) -> Path:
    """What one process makes of the same scans per update."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    return train_stage(
        "instruct", [*settings, "train.batch_size=8"], output=folder, init=runs["align"]
    )


def train_two(folder: Path, settings: list[str], runs, *options: str) -> None:
    words = ["train", "instruct", *settings, "train.batch_size=4", *options]
    done = run_two([*words, "-o", str(folder), "--init", str(runs["align"])])
    assert done.returncode == 0, done.stderr[-3000:]


def check_same_as_alone(folder: Path, alone: Path, runs) -> None:
    start, one, two = (weights(f / "model") for f in (runs["align"], alone, folder))
    assert largest(one, start) > 1e-2
    assert largest(one, two) < 2e-4
    logs = [(f / "log.jsonl").read_text().splitlines() for f in (alone, folder)]
    steps = [json.loads(lines[-1])["step"] for lines in logs]
    assert steps[0] == steps[1]


@pytest.mark.parametrize("quantizer", ["vq", "fsq"])
def test_two_processes_learn_the_tokenizer_of_one(tmp_path, cohort_folder, quantizer):
    options = [o for o in TINY_MODEL if not o.startswith(("train.batch", "train.lr"))]
    options += [f"data.dataset_dir=[{cohort_folder}]", f"model.vq_model.quantizer={quantizer}"]
    # A small codebook that moves fast: codes die and come back. Dropped paths would be others.
    options += ["model.vq_model.decay=0.5", "model.vq_model.drop_path=0.0", "train.lr=1e-3"]
    options += ["model.vq_model.fsq_levels=[4,4,2]", "train.select_best=false"]
    one = train_stage("tokenizer", [*options, "train.batch_size=8"], output=tmp_path / "one")
    two = tmp_path / "two"
    done = run_two(["train", "tokenizer", *options, "train.batch_size=4", "-o", str(two)])
    assert done.returncode == 0, done.stderr[-3000:]
    states = [
        {n: v for n, v in FMRITokenizer.from_pretrained(f / "model").state_dict().items()}
        for f in (one, two)
    ]
    assert largest(*states) < 1e-3
    curves = [
        [json.loads(x) for x in (f / "log.jsonl").read_text().splitlines()] for f in (one, two)
    ]
    for rows in zip(*curves, strict=True):
        if rows[0]["split"] == "train":
            for name in ("step", "rec_loss", "commit_loss", "clip_loss", "profile_loss", "loss"):
                assert rows[0][name] == pytest.approx(rows[1][name], rel=1e-3, abs=1e-5), name


def test_two_processes_give_the_weights_of_one(tmp_path, settings, runs, alone):
    train_two(tmp_path / "two", settings, runs)
    check_same_as_alone(tmp_path / "two", alone, runs)


def test_sharded_training_gives_the_weights_of_one_process_which_goes_on_alone(
    tmp_path, settings, runs, alone
):
    folder = tmp_path / "two"
    train_two(folder, settings, runs, "train.parallel=fsdp")
    check_same_as_alone(folder, alone, runs)
    path = latest_checkpoint(folder / "checkpoints")
    assert len(list(path.glob("*.distcp"))) == 2  # a part of each process
    objective = rebuild_objective(folder)
    load_weights(path, objective)
    live = weights(folder / "model")
    loaded = {n: v for n, v in objective.model.state_dict().items() if v.is_floating_point()}
    assert largest(live, loaded) == 0
    merged = merge(folder, output=tmp_path / "merged", checkpoint=True)
    assert largest(live, weights(merged / "model")) == 0
    train_stage("instruct", ["train.epochs=3", "train.parallel=ddp"], output=folder, resume=True)
    assert json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["epoch"] == 3
    assert largest(live, weights(folder / "model")) > 0


@DEEPSPEED
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_trains_and_its_checkpoint_is_merged_in_one_process(
    tmp_path, settings, runs, alone, stage
):
    folder = tmp_path / "two"
    path = ROOT / f"configs/deepspeed_zero{stage}.json"
    train_two(folder, settings, runs, f"train.deepspeed={path}")
    check_same_as_alone(folder, alone, runs)
    merged = merge(folder, output=tmp_path / "merged", checkpoint=True)
    assert largest(weights(folder / "model"), weights(merged / "model")) < 1e-6
    with pytest.raises(InputError, match="DeepSpeed"):
        train_stage("instruct", ["train.epochs=3", "train.deepspeed=null"], output=folder,
                    resume=True)  # fmt: skip
