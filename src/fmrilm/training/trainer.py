"""THE training loop. It knows nothing of the stage: an objective turns a batch into losses."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DataLoaderConfiguration,
    DistributedDataParallelKwargs,
    set_seed,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fmrilm.config import TrainConfig
from fmrilm.errors import InputError
from fmrilm.training.progress import training_progress

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
class _State:
    """Where training stands; saved and restored with the checkpoint."""

    epoch: int = 0
    step: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


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

    Raises
    ------
    InputError
        If there is nothing to resume from, or the loss stops being a number.
    """
    accelerator = Accelerator(
        # Without a GPU a launcher's processes find each other only if this is said.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=choose_precision(config.mixed_precision),
        log_with=check_tracker(config.tracker),
        project_dir=output_dir,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
        step_scheduler_with_optimizer=False,
    )
    check_launch(accelerator.num_processes)
    output_dir.mkdir(parents=True, exist_ok=True)
    if config.tracker is not None:
        accelerator.init_trackers("fmrilm", config=asdict(config))
    set_seed(config.seed)
    optimizer = torch.optim.AdamW(
        _parameter_groups(objective, config.weight_decay),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
    )
    export = objective.export
    objective, optimizer, train_loader = accelerator.prepare(objective, optimizer, train_loader)
    if val_loader is not None:
        val_loader = accelerator.prepare(val_loader)
    updates = math.ceil(len(train_loader) / config.gradient_accumulation_steps) * config.epochs
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer.optimizer, lambda step: learning_rate_factor(step, updates, config)
    )
    state = _State()
    accelerator.register_for_checkpointing(scheduler, state)
    checkpoints = output_dir / CHECKPOINTS
    if resume:
        accelerator.load_state(str(_latest_checkpoint(checkpoints)))
        _forget_later_epochs(output_dir / LOG, state.epoch)
    elif accelerator.is_main_process:
        (output_dir / LOG).unlink(missing_ok=True)

    with training_progress(accelerator.is_main_process, config.epochs, len(train_loader)) as show:
        while state.epoch < config.epochs:
            started = time.perf_counter()
            train_loader.set_epoch(state.epoch)  # type: ignore[attr-defined]
            objective.train()
            means = _Means()
            for batch in train_loader:
                with accelerator.accumulate(objective):
                    losses = objective(batch)
                    _check_finite(losses["loss"], state)
                    accelerator.backward(losses["loss"])
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(objective.parameters(), config.grad_clip)
                    optimizer.step()
                    optimizer.zero_grad()
                if accelerator.sync_gradients:
                    scheduler.step()
                    state.step += 1
                means.add(losses, len(batch["position"]))
                show(state.epoch, means.values())
            state.epoch += 1
            rows = [("train", means.reduce(accelerator))]
            if val_loader is not None:
                rows.append(("val", validate(objective, val_loader, accelerator)))
            _log(accelerator, output_dir / LOG, rows, state, scheduler, started)
            current = rows[-1][1]["loss"]
            keep_last = val_loader is None or not config.select_best
            if keep_last or current < state.best_loss:
                state.best_loss, state.best_epoch = current, state.epoch
                if accelerator.is_main_process:
                    _replace_folder(output_dir / "model", export)
            due = state.epoch % config.checkpoint_every == 0 or state.epoch == config.epochs
            if config.save_ckpt and due:
                _save_checkpoint(accelerator, checkpoints, state.epoch)
    accelerator.end_training()


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


def check_launch(num_processes: int) -> None:
    """Raise :class:`InputError` if a launcher asked for more processes than take part."""
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if asked != num_processes:
        raise InputError(
            f"the launcher started {asked} processes, but they train as {num_processes}: on a CPU "
            "start them with torchrun, or launch with ACCELERATE_USE_CPU=true and MASTER_ADDR set"
        )


def choose_precision(asked: str) -> str:
    """Return no, bf16 or fp16; ``auto`` is bf16 where the processor computes in it, else no."""
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    # Without the instructions for it, bf16 on a CPU is many times slower than float32.
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "no"


def check_tracker(name: str | None) -> str | None:
    """Return the name of a tracker, or raise :class:`InputError` if it is not installed."""
    if name is None:
        return None
    from accelerate.tracking import get_available_trackers

    if name not in [str(one) for one in get_available_trackers()]:
        raise InputError(f"train.tracker is {name!r}, which is not installed: pip install {name}")
    return name


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


def _check_finite(loss: Tensor, state: _State) -> None:
    if not torch.isfinite(loss):
        raise InputError(
            f"the loss is {loss.item()} in epoch {state.epoch + 1}: lower train.lr or check the "
            "scaling of the cohort"
        )


def _log(
    accelerator: Accelerator,
    path: Path,
    rows: list[tuple[str, dict[str, float]]],
    state: _State,
    scheduler: Any,
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
        "lr": scheduler.get_last_lr()[0],
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


def _replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder that takes the place of ``folder`` only when it is complete."""
    partial, old = folder.with_suffix(".partial"), folder.with_suffix(".old")
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    write(partial)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def _save_checkpoint(accelerator: Accelerator, folder: Path, epoch: int) -> None:
    """Write ``folder/epoch-<n>`` under its name only when complete, then drop the older ones."""
    partial, final = folder / "partial", folder / f"epoch-{epoch:04d}"
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        os.replace(partial, final)
        for older in folder.glob("epoch-*"):
            if older != final:
                shutil.rmtree(older)
    accelerator.wait_for_everyone()


def _latest_checkpoint(folder: Path) -> Path:
    found = sorted(folder.glob("epoch-*"))
    if not found:
        raise InputError(f"{folder} holds no checkpoint to resume from: leave out --resume")
    return found[-1]
