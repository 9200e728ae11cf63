"""THE training loop. It knows nothing of the stage: an objective turns a batch into losses."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fmrilm.config.schema import TrainConfig
from fmrilm.errors import InputError
from fmrilm.files import replacing
from fmrilm.readers import check_types, read_json_lines
from fmrilm.training.checkpoints import (
    latest_checkpoint,
    load_checkpoint,
    replace_folder,
    save_checkpoint,
)
from fmrilm.training.distributed import Exporter, is_sharded, make_accelerator, shard
from fmrilm.training.objective import Objective, State
from fmrilm.training.progress import Show, training_progress
from fmrilm.training.runs import TRACKED, forget_results

CHECKPOINTS = "checkpoints"
LOG = "log.jsonl"
_Batch = Mapping[str, Tensor]


def train(
    objective: Objective,
    train_loader: DataLoader,
    config: TrainConfig,
    output_dir: Path,
    val_loader: DataLoader | None = None,
    resume: bool = False,
    run_id: str = "",
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
    run_id : str
        Written into the checkpoints; only those of the same run are resumed from.

    Raises
    ------
    InputError
        If there is nothing to resume from, or only the checkpoint of another run, or the loss stops
        being a number.
    """
    accelerator = make_accelerator(config, output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    if config.tracker is not None:
        accelerator.init_trackers(TRACKED, asdict(config), tracker_options(config))
    set_seed(config.seed)
    exporter = Exporter(objective, is_sharded(accelerator, config))
    network, optimizer, train_loader = _prepare(accelerator, objective, train_loader, config)
    if val_loader is not None:
        val_loader = accelerator.prepare(val_loader)
    state, checkpoints = State(run=run_id), output_dir / CHECKPOINTS
    if resume:
        path = latest_checkpoint(checkpoints)
        load_checkpoint(accelerator, path, network, optimizer, state)
        if accelerator.is_main_process:
            _forget_later_epochs(output_dir / LOG, state.epoch)
    elif accelerator.is_main_process:
        (output_dir / LOG).unlink(missing_ok=True)
        shutil.rmtree(checkpoints, ignore_errors=True)

    updates = math.ceil(len(train_loader) / config.gradient_accumulation_steps)
    with training_progress(accelerator.is_main_process, config.epochs, updates) as show:
        while state.epoch < config.epochs:
            started = time.perf_counter()
            train_loader.set_epoch(state.epoch)  # type: ignore[attr-defined]
            spread = network, optimizer, train_loader
            means = _train_epoch(accelerator, objective, spread, config, state, show)
            rows = [("train", _finite(means.reduce(accelerator), state))]
            state.epoch += 1
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
                    forget_results(output_dir)
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
    objective: Objective,
    spread: tuple[Any, Any, DataLoader],
    config: TrainConfig,
    state: State,
    show: Show,
) -> _Means:
    """Train one epoch; ``spread`` is what :func:`_prepare` made of the objective."""
    network, optimizer, loader = spread
    network.train()
    means = _Means()
    steps = config.gradient_accumulation_steps
    total = math.ceil(len(loader) / steps) * config.epochs
    for batches in _windows(loader, steps):
        # Before the backward pass: DeepSpeed takes its step there.
        set_learning_rate(optimizer, config.lr * learning_rate_factor(state.step, total, config))
        for i, (batch, shares) in enumerate(_share(accelerator, objective, batches)):
            accelerator.sync_gradients = i == len(batches) - 1
            waits = nullcontext() if accelerator.sync_gradients else accelerator.no_sync(network)
            with waits:
                losses = network(batch)
                # accelerate and DeepSpeed divide by the steps; the shares have done so.
                accelerator.backward(accelerator.gradient_accumulation_steps * shares(losses))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(network.parameters(), config.grad_clip)
                optimizer.step()
                optimizer.zero_grad()
            means.add(losses, len(batch["position"]))
        state.step += 1
        show(state.epoch, lambda: _finite(means.values(), state))
    return means


def _windows(loader: Iterable[_Batch], steps: int) -> Iterator[list[_Batch]]:
    """Yield the batches that share an update; the last ones of an epoch may be fewer."""
    batches = iter(loader)
    while window := list(islice(batches, steps)):
        yield window


def _share(
    accelerator: Accelerator, objective: Objective, batches: list[_Batch]
) -> Iterator[tuple[_Batch, Callable[[Mapping[str, Tensor]], Tensor]]]:
    """Yield batches with what makes of their losses their share of the loss of all of them.

    Every part of the loss is a mean over targets, of which batches hold unequally many: the mean of
    the batches' means is not the mean over all. Each is therefore weighted by its share of the
    targets of all batches and processes.
    """
    if len(batches) * accelerator.num_processes == 1:
        yield batches[0], lambda losses: losses["loss"]
        return
    weights, world = objective.weights, accelerator.num_processes
    prepared = [objective.prepare(batch) for batch in batches]
    counts = torch.stack(
        [torch.stack([count[name].float() for name in weights]) for _, count in prepared]
    ).to(accelerator.device)
    total = counts.sum(0)
    if world > 1:
        total = accelerator.reduce(total)
    factors = torch.tensor(list(weights.values()), device=counts.device) * counts * world
    # (batches, parts); gradients are averaged over processes
    factors = factors / total.clamp_min(1)
    for (batch, _), row in zip(prepared, factors, strict=True):
        yield batch, partial(_weighted_sum, names=list(weights), factors=row)


def _weighted_sum(losses: Mapping[str, Tensor], names: Sequence[str], factors: Tensor) -> Tensor:
    return torch.stack([f * losses[n] for f, n in zip(factors, names, strict=True)]).sum()


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
    device = accelerator.device
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices=devices, device_type=device.type):
        torch.manual_seed(0)
        for batch in loader:
            means.add(objective(batch), len(batch["position"]))
    return means.reduce(accelerator)


def learning_rate_factor(step: int, total: int, config: TrainConfig) -> float:
    """Return the share of the peak learning rate: linear warm-up, then one cosine to the end.

    With ``train.schedule`` a straight line to the end, or no change.
    """
    share = round(config.warmup * total)
    warmup = max(1, share if config.warmup_steps is None else min(config.warmup_steps, total))
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    floor = config.lowest_lr / config.lr
    if config.schedule == "linear":
        return floor + (1 - floor) * (1 - progress)
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2


def tracker_options(config: TrainConfig) -> dict[str, dict[str, str]]:
    """Return what the tracker is started with: the run's name, where it has one."""
    if config.tracker_run is None or config.tracker not in ("wandb", "trackio"):
        return {}
    return {config.tracker: {"name": config.tracker_run}}


class _Means:
    """Averages over scans, not over batches."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}  # stay on the device until they are read
        self.count = 0

    def add(self, losses: Mapping[str, Tensor], count: int) -> None:
        for name, value in losses.items():
            wide = torch.float32 if value.device.type == "mps" else torch.float64
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().to(wide) * count
        self.count += count

    def values(self) -> dict[str, float]:
        return {name: total / max(self.count, 1) for name, total in self._totals().items()}

    def _totals(self) -> dict[str, float]:
        """Read all sums at once: this waits for the device."""
        totals = torch.stack(list(self.sums.values())).tolist() if self.sums else []
        return dict(zip(self.sums, totals, strict=True))

    def reduce(self, accelerator: Accelerator) -> dict[str, float]:
        totals = self._totals()
        names = sorted(totals)
        local = torch.tensor([*(totals[name] for name in names), self.count], dtype=torch.float64)
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


def _finite(losses: dict[str, float], state: State) -> dict[str, float]:
    if not math.isfinite(losses["loss"]):
        raise InputError(
            f"the loss is {losses['loss']} in epoch {state.epoch + 1}: lower train.lr or check the "
            "scaling of the cohort"
        )
    return losses


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
    rows = read_json_lines(path, "delete it: it is begun again") if path.exists() else []
    for row in rows:
        check_types(row, {"epoch": int}, path)
    if path.exists() and epoch > max((row["epoch"] for row in rows), default=0):
        raise InputError(
            f"{path} lacks epochs that the checkpoint has: restore it, or delete it, then it is "
            "begun again"
        )
    kept = [json.dumps(row) for row in rows if row["epoch"] <= epoch]
    with replacing(path) as partial:
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
