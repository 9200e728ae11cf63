import contextlib
import json
import math
import os
import signal
import types
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from fmrilm.config.schema import TrainConfig, load_config
from fmrilm.errors import InputError
from fmrilm.training import trainer
from fmrilm.training.distributed import check_world, choose_precision
from fmrilm.training.objective import Objective
from fmrilm.training.trainer import learning_rate_factor, train


class Regression(Objective):
    """Fit y = 2 x, with dropout so that random numbers matter."""

    def __init__(self, explode_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.GELU(), nn.Linear(16, 4))
        self.calls = 0
        self.explode_at = explode_at

    def forward(self, batch):
        self.calls += 1
        if self.calls == self.explode_at:
            raise KeyboardInterrupt
        error = (self.net(batch["x"]) - 2 * batch["x"]).square().mean()
        return {"loss": error, "error": error.detach() * 2}

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        torch.save(self.net.state_dict(), folder / "net.pt")


def loader(shuffle: bool = True, n: int = 40) -> DataLoader:
    generator = torch.Generator().manual_seed(3)
    rows = [{"x": x, "position": i} for i, x in enumerate(torch.randn(n, 4, generator=generator))]
    return DataLoader(rows, batch_size=8, shuffle=shuffle)  # type: ignore[arg-type]


def config(**options) -> TrainConfig:
    return TrainConfig(**{"epochs": 6, "lr": 1e-2, "batch_size": 8, **options})


def weights(folder: Path) -> dict:
    return torch.load(folder / "model" / "net.pt", weights_only=True)


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("crash_in_step", [1, 3, 13, 27])
def test_resumed_training_is_bit_identical_to_uninterrupted(tmp_path, crash_in_step):
    val = loader(shuffle=False)
    train(Regression(), loader(), config(), tmp_path / "whole", val)
    crashed = Regression(explode_at=crash_in_step * 2)
    with pytest.raises(KeyboardInterrupt):
        train(crashed, loader(), config(), tmp_path / "parts", val)
    has_checkpoint = any((tmp_path / "parts" / "checkpoints").glob("epoch-*"))
    train(Regression(), loader(), config(), tmp_path / "parts", val, resume=has_checkpoint)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    for a, b in zip(log(tmp_path / "whole"), log(tmp_path / "parts"), strict=True):
        a.pop("seconds"), b.pop("seconds")
        assert a == b


def test_the_epoch_with_the_lowest_validation_loss_is_exported(tmp_path):
    class Worsening(Regression):
        def forward(self, batch):
            losses = super().forward(batch)
            if not self.training:
                losses["loss"] = losses["loss"] * 0 + abs(self.epochs_seen() - 2)
            return losses

        def epochs_seen(self) -> int:
            return (self.calls - 1) // 10  # 5 training and 5 validation batches an epoch

        def export(self, folder):
            super().export(folder)
            (folder / "epoch").write_text(str(self.epochs_seen()))

    train(Worsening(), loader(), config(), tmp_path, loader(shuffle=False))
    assert (tmp_path / "model" / "epoch").read_text() == "2"


def test_losses_are_averaged_over_scans_not_batches(tmp_path):
    class PerScan(Regression):
        def forward(self, batch):
            loss = super().forward(batch)["loss"] * 0
            return {"loss": loss + batch["x"][:, 0].mean()}

    data = loader(shuffle=False, n=10)  # batches of 8 and 2
    train(PerScan(), loader(), config(epochs=1), tmp_path, data)
    expected = torch.stack([row["x"] for row in data.dataset])[:, 0].mean()
    assert log(tmp_path)[-1]["loss"] == pytest.approx(float(expected), abs=1e-6)


def test_accumulated_steps_are_those_of_the_larger_batch(tmp_path):
    class Plain(Regression):
        def __init__(self):
            super().__init__()
            self.net[1] = nn.Identity()

    small = DataLoader(loader().dataset, batch_size=4)
    large = DataLoader(loader().dataset, batch_size=8)
    train(Plain(), small, config(gradient_accumulation_steps=2), tmp_path / "a")
    train(Plain(), large, config(), tmp_path / "b")
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert log(tmp_path / "a")[-1]["step"] == log(tmp_path / "b")[-1]["step"]
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-5, rtol=1e-4)


def test_the_learning_rate_warms_up_and_falls_once():
    settings = config(lr=1.0, min_lr=0.1, warmup=0.1)
    rates = [learning_rate_factor(step, 100, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("lr", [1e-7, 2e-6, 1e-5, 1e-4, 1e-2])
def test_the_learning_rate_never_rises_above_its_peak(lr):
    settings = TrainConfig(lr=lr)
    rates = [lr * learning_rate_factor(step, 50, settings) for step in range(50)]
    assert max(rates) == pytest.approx(lr)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert min(rates[5:]) > settings.lowest_lr == min(1e-5, lr / 10)


def test_a_lowest_learning_rate_above_the_peak_is_refused():
    with pytest.raises(InputError, match=r"min_lr 1e-05.*above the peak train\.lr 2e-06"):
        load_config(overrides=["train.lr=2e-6", "train.min_lr=1e-5"])


def test_a_loss_that_is_no_number_stops_training_in_one_sentence(tmp_path):
    class Broken(Regression):
        def forward(self, batch):
            return {"loss": super().forward(batch)["loss"] * math.nan}

    with pytest.raises(InputError, match=r"loss is nan in epoch 1.*train\.lr"):
        train(Broken(), loader(), config(), tmp_path)


def test_nothing_to_train_is_said(tmp_path):
    frozen = Regression()
    frozen.requires_grad_(False)
    with pytest.raises(InputError, match="nothing is trainable"):
        train(frozen, loader(), config(), tmp_path)


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(InputError, match="no checkpoint: leave out --resume"):
        train(Regression(), loader(), config(), tmp_path, resume=True)


def test_a_launch_that_lost_its_processes_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="started 2 processes, but they train as 1"):
        check_world(1)


def test_accelerate_launch_on_a_cpu_which_starts_one_process_of_two_is_refused(monkeypatch):
    for name, value in (("ACCELERATE_MIXED_PRECISION", "no"), ("MASTER_ADDR", "127.0.0.1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(InputError, match="torchrun"):
        train(Regression(), loader(), config(), Path("unused"))


def test_automatic_precision_is_one_the_processor_has():
    assert choose_precision("auto") in ("no", "bf16")
    assert choose_precision("fp16") == "fp16"


def test_automatic_precision_is_no_bf16_that_the_gpu_only_emulates(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert choose_precision("auto") == "no"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert choose_precision("auto") == "bf16"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"deepspeed": "absent.json"}, "absent.json not found"),
        ({"deepspeed": __file__, "parallel": "fsdp"}, "exclude each other"),
        ({"deepspeed": __file__}, "torchrun, deepspeed or|pip install"),
        ({"tracker": "wandb"}, "not installed: pip install wandb"),
    ],
)
def test_what_cannot_be_started_is_said(tmp_path, options, said):
    with pytest.raises((InputError, FileNotFoundError), match=said):
        train(Regression(), loader(), config(**options), tmp_path)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_checkpoint_acts_when_it_is_written(tmp_path, monkeypatch, sent):
    """Inside torch's writer it would leave one behind that aborts the process at its exit."""
    import torch.distributed.checkpoint as dcp

    class Told(Exception):  # noqa: N818
        pass

    def tell(*_):
        raise Told

    written = []
    original = dcp.save

    def save(*args, **options):
        os.kill(os.getpid(), sent)
        original(*args, **options)
        written.append(1)

    monkeypatch.setattr(dcp, "save", save)
    before = signal.signal(sent, tell)
    try:
        with pytest.raises(Told):
            train(Regression(), loader(), config(), tmp_path)
        assert signal.getsignal(sent) is tell
    finally:
        signal.signal(sent, before)
    assert written == [1]


def test_only_the_last_checkpoint_is_kept(tmp_path):
    train(Regression(), loader(), config(), tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["epoch-0006"]


def test_tensorboard_shows_what_the_log_says(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(Regression(), loader(), config(tracker="tensorboard"), tmp_path, loader(False))
    [events] = {path.parent for path in tmp_path.rglob("events.*") if path.parent.name == "fmrilm"}
    shown = EventAccumulator(str(events)).Reload()
    for split in ("train", "val"):
        wanted = [row["loss"] for row in log(tmp_path) if row["split"] == split]
        found = [scalar.value for scalar in shown.Scalars(f"{split}/loss")]
        assert found == pytest.approx(wanted, rel=1e-5)


def test_losses_are_read_once_an_epoch_however_many_updates_it_has(monkeypatch, tmp_path):
    reads = []
    values = trainer._Means.values
    monkeypatch.setattr(trainer._Means, "values", lambda self: reads.append(1) or values(self))
    monkeypatch.setattr("fmrilm.training.progress.SECONDS", 1e9)
    train(Regression(), loader(), config(gradient_accumulation_steps=2), tmp_path)
    assert len(reads) == 1 + 6  # the first update's, and at the end of each of six epochs


def test_validation_leaves_the_random_numbers_of_its_device_alone(monkeypatch):
    forked = []

    def fork(**options):
        forked.append(options)
        return contextlib.nullcontext()

    monkeypatch.setattr(torch.random, "fork_rng", fork)
    accelerator = types.SimpleNamespace(device=torch.device("cuda:1"), num_processes=1)
    trainer.validate(Regression(), [], accelerator)
    assert forked == [{"devices": [torch.device("cuda:1")], "device_type": "cuda"}]


def test_a_loss_that_is_no_number_stops_training_before_anything_is_kept(tmp_path):
    class Diverging(Regression):
        def forward(self, batch):
            losses = super().forward(batch)
            return {name: value * float("nan") for name, value in losses.items()}

    with pytest.raises(InputError, match="the loss is nan in epoch 1: lower"):
        train(Diverging(), loader(), config(), tmp_path)
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "checkpoints").exists()
