"""Two processes train as one does (gloo, through torchrun)."""

import json
import os
import subprocess
import sys
from pathlib import Path

from fmrilm.models.fmrilm import FMRILM
from fmrilm.training.build import train_stage
from small import TINY_MODEL

ROOT = Path(__file__).parent.parent.parent


def test_two_processes_give_the_weights_of_one(tmp_path, cohort_folder, runs):
    """Answers of one length each, so that the mean of two means is the mean of all."""
    options = [o for o in TINY_MODEL if not o.startswith(("train.batch", "train.epochs"))]
    options += [f"data.dataset_dir=[{cohort_folder}]", "instruct.use_random_prompt=false"]
    options += ["train.epochs=2", "instruct.tasks=[sex]"]
    train_stage(
        "instruct", [*options, "train.batch_size=8"], output=tmp_path / "one", init=runs["align"]
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    )
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words += ["-m", "fmrilm", "train", "instruct", *options, "train.batch_size=4"]
    words += ["-o", str(tmp_path / "two"), "--init", str(runs["align"])]
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr[-2000:]
    a, b = (FMRILM.from_pretrained(tmp_path / n / "model").state_dict() for n in ("one", "two"))
    start = FMRILM.from_pretrained(runs["align"] / "model").state_dict()
    numbers = [name for name in a if a[name].is_floating_point()]
    moved = max(float((a[name] - start[name]).abs().max()) for name in numbers)
    apart = max(float((a[name] - b[name]).abs().max()) for name in numbers)
    assert moved > 1e-2
    assert apart < 2e-4
    logs = [(tmp_path / n / "log.jsonl").read_text().splitlines() for n in ("one", "two")]
    steps = [json.loads(lines[-1])["step"] for lines in logs]
    assert steps[0] == steps[1]
