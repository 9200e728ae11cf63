"""The four made cohorts in the original's layout, a working directory like its repository root."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from original_cohorts import make_cohorts

ROOT = Path(__file__).parent.parent
SHARED = next((p / "shared" for p in ROOT.parents if (p / "shared").is_dir()), ROOT / "shared")
MAKER = SHARED / "cases/original-layout/make_data.py"
README = SHARED / "000_92168b1c709cf485.txt"
PAGE = ROOT / "docs/guide/coming-from-fmri-lm.md"
LM = "Qwen/Qwen3-0.6B"
SMALL = """
model:
  vq_model:
    patch_size: 160
    n_embd: 16
    n_layer: 1
    n_head: 2
    num_rois: 450
    num_timestamp: 160
    enc_cls: vit_base
    codebook_size: 64
    code_dim: 8
  lm:
    base_model: Qwen/Qwen3-0.6B
    num_fmri_tokens: 450
    use_fmri_lm_head: true
    add_fmri_delimiter: true
    peft_tune: true
    temperature: 0.7
    top_p: 0.8
tokenizer:
  clip_dim: 16
align:
  max_text_length: 40
"""
DATASETS = """
datasets:
  UKB:
    targets:
      - sex
      - fluidintel_enc
  ABCD:
    targets:
      - sex
  HCP:
    targets:
      - sex
  ADNI:
    targets:
      - AD
  MyDataset:
    targets:
      - target1
      - target2
"""


def commands(text: str) -> list[list[str]]:
    """Return the words of every command in the bash blocks of a page, installation left out."""
    found = []
    for block in re.findall(r"```bash\n(.*?)```", text, re.S):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            words = line.split()
            if words and not line.startswith("#") and words[0] in ("accelerate", "python", "bash"):
                found.append(words)
    return found


def printed_commands() -> list[list[str]]:
    """Return the original's documented commands, which our page repeats."""
    return commands(PAGE.read_text(encoding="utf-8"))


def make_root(place: Path) -> Path:
    """Fill a folder like the root of the original's repository, with small sizes."""
    make_cohorts(place / "data")
    (place / "configs").mkdir()
    (place / "configs/vit_base_qwen_p160.yaml").write_text(SMALL)
    (place / "configs/dataset_config.yaml").write_text(DATASETS)
    for path in ROOT.glob("configs/deepspeed_*.json"):
        (place / "configs" / path.name).symlink_to(path)
    for script in ROOT.glob("*.py"):
        (place / script.name).symlink_to(script)
    (place / "scripts").symlink_to(ROOT / "scripts")
    return place


# As the original's file for ZeRO-2 looks: optimizer and schedule in it, precision left open.
ZERO_2 = {
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto", "loss_scale": 0, "initial_scale_power": 16},
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": "auto", "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": "auto"},
    },
    "scheduler": {
        "type": "WarmupDecayLR",
        "params": {
            "warmup_min_lr": 0, "warmup_max_lr": "auto", "warmup_num_steps": 2,
            "total_num_steps": "auto",
        },
    },
    "zero_optimization": {
        "stage": 2, "allgather_partitions": True, "allgather_bucket_size": 2e8,
        "overlap_comm": True, "reduce_scatter": True, "reduce_bucket_size": 2e8,
        "contiguous_gradients": True,
    },
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "steps_per_print": 2000,
    "wall_clock_breakdown": False,
}  # fmt: skip


def run(
    place: Path, words: Sequence[str], environment: Mapping[str, str], timeout: int = 250
) -> subprocess.CompletedProcess[str]:
    """Type a command in a working directory, as a user with fmrilm installed would."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    done = subprocess.run(
        list(words),
        cwd=place,
        env={
            **kept, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **environment,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    return done


def make_language_model(folder: Path) -> Path:
    """Write a tiny language model and its text tokenizer, as transformers does."""
    import torch

    from fmrilm.config.schema import LMConfig
    from fmrilm.lm.language_models import load_language_model

    torch.manual_seed(0)
    tiny = LMConfig(base_model="tiny", tiny_width=32, tiny_depth=1, tiny_vocab=400)
    texts = ["In this scan connectivity is typical (z = 0.85). Question: Male or Female? Answer:"]
    network, text_tokenizer = load_language_model(tiny, texts)
    network.save_pretrained(folder)
    text_tokenizer.save_pretrained(folder)
    return folder


def as_cached(folder: Path, home: Path) -> dict[str, str]:
    """Put a model into a Hugging Face cache under the printed name; return the variables."""
    entry = home / "hub" / f"models--{LM.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs/main").write_text("0" * 40)
    (entry / "snapshots").mkdir()
    (entry / "snapshots" / ("0" * 40)).symlink_to(folder.resolve())
    return {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Return hash and time of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns
        )
        for path in files
    }  # fmt: skip


def metrics(folder: Path) -> list[dict]:
    """Return the results of an evaluation."""
    return json.loads((folder / "metrics.json").read_text())["results"]
