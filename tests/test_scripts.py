"""The scripts with the original's names run from stage 1 to the scores of a new cohort."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from small import TINY_MODEL, make_cohort

ROOT = Path(__file__).parent.parent


def run(name: str, *words: str, **variables: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    environment |= {name: str(value) for name, value in variables.items()}
    path = [str(ROOT / "src"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    return subprocess.run(
        [str(ROOT / "scripts" / name), *words],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )


def small(tmp_path: Path) -> Path:
    """Write the settings of a small model as a YAML file."""
    from fmrilm.config.schema import load_config, save_config

    options = [*TINY_MODEL, "train.epochs=1"]
    save_config(load_config(overrides=options), tmp_path / "small.yaml")
    return tmp_path / "small.yaml"


def test_stage_2_and_3_and_the_scores_of_an_unseen_cohort(tmp_path, cohort_folder, runs):
    common = {"CONFIG": small(tmp_path), "DATASET_DIR": cohort_folder, "DESC_TYPE": "fc"}
    align, inst = tmp_path / "align", tmp_path / "inst"
    done = run("launch_train_pretrain_paired.sh", TOKENIZER=runs["tokenizer"], OUTPUT=align,
               **common)  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run("launch_train_instruction.sh", PRETRAINED=align, OUTPUT=inst, FEWSHOT=4, **common)
    assert done.returncode == 0, done.stderr
    trained = (inst / "config.yaml").read_text()
    assert "fewshot_samples: 4" in trained
    assert "add_src_info: true" in trained
    unseen = make_cohort(tmp_path / "unseen", subjects=24, name="unseen")
    done = run("eval_zeroshot.sh", "--baselines", "none", "--no-scrutiny", "--samples", "0",
               RUN=inst, DATASET_DIR=unseen, OUTPUT=tmp_path / "scores")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "unseen" in json.dumps(json.loads((tmp_path / "scores/metrics.json").read_text()))


def test_the_deepspeed_script_trains_or_says_what_to_install(tmp_path, cohort_folder, runs):
    done = run("launch_train_pretrain_paired_deepspeed.sh", "train.batch_size=4",
               CONFIG=small(tmp_path), DATASET_DIR=cohort_folder, DESC_TYPE="fc",
               TOKENIZER=runs["tokenizer"], OUTPUT=tmp_path / "a", DS_ACCELERATOR="cpu",
               NUM_PROCESSES=2 if find_spec("deepspeed") else 1)  # fmt: skip
    if find_spec("deepspeed"):
        assert done.returncode == 0, done.stderr
        assert list((tmp_path / "a/checkpoints/epoch-0001/deepspeed").glob("*.pt"))
    else:
        assert done.returncode == 2
        assert "pip install 'fmrilm[deepspeed]'" in done.stderr
