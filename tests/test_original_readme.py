"""What the original's README prints is typed here, on a data folder in its layout.

Only sizes and epochs are smaller; the test `slow` runs the scripts with all their epochs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

import original_layout as original
from fmrilm.run_record import read_lineage

PRINTED = original.printed_commands()
DEEPSPEED = pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs fmrilm[deepspeed]")
TOKENIZER = "checkpoints/tokenizer/VQ_Align-ViT_base-p160"
PAIRED = "checkpoints/pretrain/VQ-ViT_base-p160-qwen0.6B"
INSTRUCT = "checkpoints/instruction/VQ-ViT_base-qwen0.6B-classification"
SCRIPTS = {
    "launch_train_quantizer_contr.sh": "train_quantizer_contr",
    "launch_train_pretrain_paired.sh": "train_pretrain_paired",
    "launch_train_pretrain_paired_deepspeed.sh": "train_pretrain_paired",
    "launch_train_instruction.sh": "train_instruction",
    "eval_zeroshot.sh": "eval_zeroshot",
}


def printed(script: str) -> list[str]:
    """Return the printed command of a script, with one epoch."""
    (words,) = [w for w in PRINTED if f"{script}.py" in w]
    return re.sub(r"--epochs \d+", "--epochs 1", " ".join(words)).split()


def make_place(place: Path):
    """Return a working directory with data and model, its variables and the hash of its data."""
    place.mkdir(exist_ok=True)
    original.make_root(place)
    folder = original.make_language_model(place / "lm")
    return place, original.as_cached(folder, place / "home"), original.contents(place / "data")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("root"))


def typed(root, words, timeout: int = 250) -> str:
    """Type a command in the working directory and return what it says."""
    done = original.run(root[0], words, root[1], timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.skipif(not original.README.is_file(), reason="needs ../shared")
def test_every_printed_command_is_on_our_page():
    theirs = original.commands(original.README.read_text(encoding="utf-8"))
    assert sorted(theirs) == sorted(PRINTED)
    assert len(PRINTED) == 10


@pytest.mark.skipif(not original.MAKER.is_file(), reason="needs ../shared")
def test_our_cohorts_are_laid_out_as_the_given_ones(root, tmp_path):
    subprocess.run([sys.executable, str(original.MAKER), str(tmp_path / "data")], check=True)

    def layout(folder: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = str(path.relative_to(folder))
            if path.suffix == ".csv":
                table = pd.read_csv(path)
                found[name] = (len(table), table.dtypes.astype(str).to_dict())
            elif path.suffix == ".npz":
                with np.load(path) as file:
                    found[name] = {key: file[key].shape for key in file}
            else:
                with h5py.File(path) as file:
                    sets: dict[str, object] = {}
                    file.visititems(
                        lambda key, x, sets=sets: (
                            sets.update({key: (x.shape, str(x.dtype))})
                            if isinstance(x, h5py.Dataset)
                            else None
                        )
                    )
                found[name] = sets
        return found

    assert layout(root[0] / "data") == layout(tmp_path / "data")


def test_every_printed_command_is_typed_below():
    scripts = {next(w for w in words if w.endswith((".py", ".sh"))) for words in PRINTED}
    assert {name for name in scripts if name.endswith(".py")} == {
        "train_quantizer_contr.py", "train_pretrain_paired.py", "train_instruction.py",
        "eval_zeroshot.py", "merge_deepspeed_checkpoint.py",
    }  # fmt: skip
    assert {Path(name).name for name in scripts if name.endswith(".sh")} == set(SCRIPTS)


@pytest.fixture(scope="module")
def tokenizer(root):
    typed(root, printed("train_quantizer_contr"))
    return root[0] / TOKENIZER


@pytest.fixture(scope="module")
def paired(root, tokenizer):
    typed(root, printed("train_pretrain_paired"))
    return root[0] / PAIRED


@pytest.fixture(scope="module")
def instruction(root, paired):
    said = typed(root, printed("train_instruction"))
    assert "left out: ADNI" in said
    assert "'Male subject'" in said  # which bare --add_desc leaves out
    return root[0] / INSTRUCT


@pytest.fixture(scope="module")
def zeroshot(root, paired):
    said = typed(root, printed("eval_zeroshot"))
    return said, {
        (r["cohort"], r["task"]): r for r in original.metrics(root[0] / "results/zeroshot")
    }


def config_of(folder: Path):
    from fmrilm.config.schema import load_config

    return load_config([folder / "config.yaml"])


def test_stage_1_trains_on_both_folders_with_a_decoder_as_deep_as_the_encoder(tokenizer):
    assert set(read_lineage(tokenizer)["cohorts"]) == {"UKB", "ABCD"}
    config = config_of(tokenizer)
    assert config.model.vq_model.dec_layer == config.model.vq_model.n_layer
    assert config.data.desc_type == ["fc", "ica"]


def test_stage_2_goes_on_from_its_ckpt_file_on_the_same_people(tokenizer, paired):
    lineage = read_lineage(paired)
    assert lineage["parent"] == str(tokenizer)
    assert lineage["language_model"]["name"] == original.LM
    config = config_of(paired)
    assert config.align.fmri_only_weight == 0.5
    assert config.train.mixed_precision == "bf16"
    before = read_lineage(tokenizer)["cohorts"]
    for name, about in lineage["cohorts"].items():
        assert about["fingerprints"]["splits"] == before[name]["fingerprints"]["splits"]
        assert about["state"] == str(tokenizer / "cohorts" / name)


def test_stage_3_takes_the_cohorts_that_are_there_and_targets_of_which_only_names_are_given(
    instruction,
):
    assert set(read_lineage(instruction)["cohorts"]) == {"UKB", "ABCD", "HCP", "MyDataset"}
    config = config_of(instruction)
    assert config.train.batch_size == 8
    assert config.train.mixed_precision == "bf16"
    assert config.instruct.add_desc == ["auto"]
    assert config.tasks["target1"].answers == {"0": "0", "1": "1"}


def test_zero_shot_asks_a_cohort_never_trained_on_in_full(zeroshot):
    said, results = zeroshot
    assert set(results) == {
        ("UKB", "sex"), ("UKB", "fluidintel_enc"), ("ABCD", "sex"), ("HCP", "sex")
    }  # fmt: skip
    assert (results["HCP", "sex"]["split"], results["HCP", "sex"]["n_scans"]) == ("all", 24)
    assert (results["UKB", "sex"]["split"], results["UKB", "sex"]["n_scans"]) == ("test", 5)
    assert "all 24 scans are held out and asked" in said


def test_merge_makes_a_run_that_stage_3_can_start_from(root, paired):
    from fmrilm.training.runs import find_run

    shutil.copytree(paired, paired.parent / "model_name")
    typed(root, printed("merge_deepspeed_checkpoint"))
    merged = paired.parent / "model_name/merged_checkpoint"
    assert find_run(Path(f"{merged}.pt")) == merged
    assert json.loads((merged / "lineage.json").read_text())["merged_from"]


def two_processes(words: list[str]) -> list[str]:
    """Return an `accelerate launch` of two processes, which starts them with --multi_gpu only."""
    assert words[:2] == ["accelerate", "launch"]
    return [*words[:2], "--multi_gpu", "--num_processes", "2", "--main_process_port", "0",
            *words[2:]]  # fmt: skip


def elsewhere(words: list[str], folder: str, new: str) -> list[str]:
    return [new if word == folder else word for word in words]


@DEEPSPEED
def test_two_processes_with_the_originals_deepspeed_file_are_merged_and_evaluated(root, paired):
    place = root[0]
    (place / "zero2.json").write_text(json.dumps(original.ZERO_2))
    words = elsewhere(printed("train_instruction"), INSTRUCT, "runs/zero")
    said = typed(root, [*two_processes(words), "--deepspeed", "zero2.json"])
    assert said.count("UKB: 17 training") == 1  # of two processes one speaks
    train = config_of(place / "runs/zero").train
    assert (train.mixed_precision, train.schedule, train.beta2) == ("bf16", "linear", 0.95)
    typed(root, ["python", "merge_deepspeed_checkpoint.py", "--checkpoint_dir",
                 "runs/zero/deepspeed_checkpoint/", "--output_file", "runs/merged.pt"])  # fmt: skip
    words = elsewhere(printed("eval_zeroshot"), f"{PAIRED}/ckpt.pt", "runs/merged.pt")
    words = elsewhere(words, "results/zeroshot/", "results/zero")
    typed(root, [*words, "--baselines", "none", "--no-scrutiny"])
    results = original.metrics(place / "results/zero")
    assert {r["split"] for r in results} == {"test"}  # it was trained on HCP too
    assert len(results) == 4


@pytest.mark.slow
def test_two_processes_of_accelerate_train_stage_1(root):
    words = elsewhere(printed("train_quantizer_contr"), TOKENIZER, "runs/two")
    said = typed(root, two_processes(words))
    assert said.count("UKB: 17 training") == 1
    assert "FutureWarning" not in said
    assert (root[0] / "runs/two/model").is_dir()


def test_two_processes_that_accelerate_does_not_start_are_refused(root):
    words = printed("train_quantizer_contr")
    done = original.run(root[0], [*words[:2], "--num_processes", "2", *words[2:]], root[1])
    assert done.returncode != 0
    assert "add --multi_gpu" in done.stdout + done.stderr


def test_nothing_in_the_data_folder_is_touched(root, instruction, zeroshot):
    place, _, before = root
    assert original.contents(place / "data") == before
    assert (place / TOKENIZER / "cohorts/UKB/splits.tsv").is_file()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_without_variables_is_its_printed_command(script, root, tmp_path):
    recorder = tmp_path / "python"
    recorder.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    recorder.chmod(0o755)
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    done = subprocess.run(
        ["bash", f"scripts/{script}"],
        env={**kept, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        cwd=root[0], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    name = SCRIPTS[script]
    behind = words[next(i for i, w in enumerate(words) if w.endswith(f"{name}.py")) + 1 :]
    (command,) = [w for w in PRINTED if f"{name}.py" in w]
    command = command[command.index(f"{name}.py") + 1 :]
    if script.endswith("_deepspeed.sh"):
        assert behind[behind.index("--deepspeed") + 1] == "configs/deepspeed_zero2.json"
        return
    assert set(command) <= set(behind)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_scripts_run_with_no_variable_set_and_all_their_epochs(tmp_path):
    place = make_place(tmp_path / "scripts")
    for script in SCRIPTS:
        if script.endswith("_deepspeed.sh"):
            if find_spec("deepspeed") is None:
                continue
            shutil.rmtree(place[0] / PAIRED)  # the same folder as the script before
        typed(place, ["bash", f"scripts/{script}"], timeout=600)
    for folder, epochs in ((TOKENIZER, 50), (PAIRED, 50), (INSTRUCT, 20)):
        last = (place[0] / folder / "log.jsonl").read_text().splitlines()[-1]
        assert json.loads(last)["epoch"] == epochs
    assert len(original.metrics(place[0] / "results/zeroshot")) == 4
    assert original.contents(place[0] / "data") == place[2]
