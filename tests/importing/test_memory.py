"""A checkpoint is read with at most its own size in memory."""

from pathlib import Path

import pytest
import torch

import original as o
from fmrilm.importing.checkpoint import import_checkpoint

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory(name):
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def write(folder, words=None):
    """Write a checkpoint whose language model has so many words, and return its path."""
    from transformers import AutoConfig

    lm, _ = o.language_model(folder / "lm", "qwen3")
    if words:
        lm.resize_token_embeddings(words, mean_resizing=False)
        config = AutoConfig.from_pretrained(folder / "lm")
        config.vocab_size = words
        config.save_pretrained(folder / "lm")
    state, _ = o.model_state(lm, "A", ("q_proj", "k_proj"), 1, 2)
    args = {"num_rois": o.R, "num_fmri_tokens": o.R, "lora_r": 1, "lora_alpha": 2}
    torch.save({"model": state, "model_args": args}, folder / "file.pt")
    return folder / "file.pt"


@pytest.mark.skipif(not RESET.exists(), reason="reads the peak from Linux's /proc")
def test_a_checkpoint_is_read_with_at_most_its_own_size_in_memory(tmp_path):
    options = {"heads": o.HEADS}
    small = write(tmp_path / "small")  # first, for what the libraries take once
    import_checkpoint(small, output=tmp_path / "a", lm=str(tmp_path / "small/lm"), **options)
    large = write(tmp_path / "large", 800_000)
    size = large.stat().st_size
    assert size > 100e6
    before = memory("VmRSS")
    RESET.write_text("5")  # the peak counts from here
    import_checkpoint(large, output=tmp_path / "b", lm=str(tmp_path / "large/lm"), **options)
    beside = 16e6  # buffers of the libraries, the same for files of any size
    assert memory("VmHWM") - before < size + beside
