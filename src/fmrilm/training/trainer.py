"""THE training loop. It knows nothing of the stage: an objective turns a batch into losses."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fmrilm.config import TrainConfig
from fmrilm.errors import InputError
from fmrilm.training.checkpoints import (
    latest_checkpoint,
    load_checkpoint,
    replace_folder,
    save_checkpoint,
)
from fmrilm.training.parallel import Exporter, is_sharded, make_accelerator, shard
from fmrilm.training.progress import Show, training_progress

CHECKPOINTS = "checkpoints"
LOG = "log.jsonl"


class Objective(nn.Module):
    """The losses of one stage over the networks it trains."""

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``loss``, and whatever else should be logged, by name; all scalars."""
        raise NotImplementedError

    def export(self, folder: Path) -> None:
        """Write the trained model so that ``from_pretrained`` reads it."""
        raise NotImplementedError


@dataclass
class State:
    """Where training stands; saved and restored with the checkpoint."""

    epoch: int = 0
    step: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0


def train(
    objective: Objective,
    train_loader: DataLoader,
    config: TrainConfig,
    output_dir: Path,
    val_loader: DataLoader | None = None,
    resume: bool = False,
) -> None:
    """Train an objective and export its best epoch to ``output_dir/model``.

    Parameters
    ----------
    objective : Objective
    train_loader, val_loader : DataLoader
        The epoch with the lowest validation loss is exported; without a validation loader, or
        with ``config.select_best`` off, the last one.
    config : TrainConfig
    output_dir : Path
        Gets ``log.jsonl``, ``checkpoints/`` and ``model/``.
    resume : bool
        Go on from the checkpoint; on a CPU the result is that of an uninterrupted run, bit by bit.
        With more or fewer processes than before it goes on with other random numbers.

    Raises
    ------
    InputError
        If there is nothing to resume from, or the loss stops being a number.
    """
    accelerator = make_accelerator(config, output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    if config.tracker is not None:
        accelerator.init_trackers("fmrilm", config=asdict(config))
    set_seed(config.seed)
    exporter = Exporter(objective, is_sharded(accelerator, config))
    network, optimizer, train_loader = _prepare(accelerator, objective, train_loader, config)
    if val_loader is not None:
        val_loader = accelerator.prepare(val_loader)
    state, checkpoints = State(), output_dir / CHECKPOINTS
    if resume:
        path = latest_checkpoint(checkpoints)
        load_checkpoint(accelerator, path, network, optimizer, state)
        if accelerator.is_main_process:
            _forget_later_epochs(output_dir / LOG, state.epoch)
    elif accelerator.is_main_process:
        (output_dir / LOG).unlink(missing_ok=True)

    with training_progress(accelerator.is_main_process, config.epochs, len(train_loader)) as show:
        while state.epoch < config.epochs:
            started = time.perf_counter()
            train_loader.set_epoch(state.epoch)  # type: ignore[attr-defined]
            means = _train_epoch(accelerator, network, optimizer, train_loader, config, state, show)
            state.epoch += 1
            rows = [("train", means.reduce(accelerator))]
            if val_loader is not None:
                rows.append(("val", validate(network, val_loader, accelerator)))
            _log(accelerator, output_dir / LOG, rows, state, optimizer, started)
            current = rows[-1][1]["loss"]
            keep_last = val_loader is None or not config.select_best
            if keep_last or current < state.best_loss:
                state.best_loss, state.best_epoch = current, state.epoch
                exporter.collect(network, accelerator)
                if accelerator.is_main_process:
                    replace_folder(output_dir / "model", exporter.write)
            due = state.epoch % config.checkpoint_every == 0 or state.epoch == config.epochs
            if config.save_ckpt and due:
                save_checkpoint(accelerator, checkpoints, network, optimizer, state)
    accelerator.end_training()


def _prepare(
    accelerator: Accelerator, objective: nn.Module, loader: DataLoader, config: TrainConfig
) -> tuple[Any, Any, Any]:
    """Return objective, optimizer and loader, spread over the processes."""
    by_torch = config.parallel == "fsdp" and accelerator.num_processes > 1
    if by_torch:
        shard(objective.to(accelerator.device), accelerator)
    optimizer = torch.optim.AdamW(
        _parameter_groups(objective, config.weight_decay),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        fused=True,
    )
    if by_torch:
        return objective, *accelerator.prepare(optimizer, loader)
    return accelerator.prepare(objective, optimizer, loader)


def _train_epoch(
    accelerator: Accelerator,
    objective: nn.Module,
    optimizer: Any,
    loader: DataLoader,
    config: TrainConfig,
    state: State,
    show: Show,
) -> _Means:
    objective.train()
    means = _Means()
    total = math.ceil(len(loader) / config.gradient_accumulation_steps) * config.epochs
    for batch in loader:
        # Before the backward pass: DeepSpeed takes its step there.
        set_learning_rate(optimizer, config.lr * learning_rate_factor(state.step, total, config))
        with accelerator.accumulate(objective):
            losses = objective(batch)
            _check_finite(losses["loss"], state)
            accelerator.backward(losses["loss"])
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(objective.parameters(), config.grad_clip)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            state.step += 1
        means.add(losses, len(batch["position"]))
        show(state.epoch, means.values())
    return means


def set_learning_rate(optimizer: Any, value: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = value


@torch.no_grad()
def validate(objective: nn.Module, loader: DataLoader, accelerator: Accelerator) -> dict:
    """Return the mean of every loss over a loader, over all scans and processes."""
    objective.eval()
    means = _Means()
    # What a validation loss draws (masks, wordings) is the same every epoch, and leaves the
    # random numbers of training untouched.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for batch in loader:
            means.add(objective(batch), len(batch["position"]))
    return means.reduce(accelerator)


def learning_rate_factor(step: int, total: int, config: TrainConfig) -> float:
    """Return the share of the peak learning rate: linear warm-up, then one cosine to the end."""
    warmup = max(1, round(config.warmup * total))
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    floor = config.min_lr / config.lr
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2


class _Means:
    """Averages over scans, not over batches."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.count = 0

    def add(self, losses: Mapping[str, Tensor], count: int) -> None:
        for name, value in losses.items():
            self.sums[name] += float(value.detach()) * count
        self.count += count

    def values(self) -> dict[str, float]:
        return {name: total / max(self.count, 1) for name, total in self.sums.items()}

    def reduce(self, accelerator: Accelerator) -> dict[str, float]:
        names = sorted(self.sums)
        local = torch.tensor(
            [self.sums[name] for name in names] + [self.count], dtype=torch.float64
        )
        if accelerator.num_processes > 1:
            local = accelerator.reduce(local.float().to(accelerator.device)).double().cpu()
        return {name: float(local[i] / local[-1]) for i, name in enumerate(names)}


def _parameter_groups(objective: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    trained = [p for p in objective.parameters() if p.requires_grad]
    if not trained:
        raise InputError("nothing is trainable: check freeze_llm, peft_tune and tune_tokenizer")
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def _check_finite(loss: Tensor, state: State) -> None:
    if not torch.isfinite(loss):
        raise InputError(
            f"the loss is {loss.item()} in epoch {state.epoch + 1}: lower train.lr or check the "
            "scaling of the cohort"
        )


def _log(
    accelerator: Accelerator,
    path: Path,
    rows: list[tuple[str, dict[str, float]]],
    state: State,
    optimizer: Any,
    started: float,
) -> None:
    if not accelerator.is_main_process:
        return
    for split, values in rows:
        named = {f"{split}/{name}": value for name, value in values.items()}
        accelerator.log(named, step=state.step)  # to the trackers
    common = {
        "epoch": state.epoch,
        "step": state.step,
        "lr": optimizer.param_groups[0]["lr"],
        "seconds": round(time.perf_counter() - started, 3),
    }
    with path.open("a", encoding="utf-8") as handle:
        for split, values in rows:
            handle.write(json.dumps({**common, "split": split, **values}) + "\n")


def _forget_later_epochs(path: Path, epoch: int) -> None:
    """Drop what was logged after the checkpoint was written."""
    rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    kept = [line for line in rows if json.loads(line)["epoch"] <= epoch]
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
