"""Checkpoints to resume from, in torch's distributed format: written by n processes, read by m.

``checkpoints/epoch-<n>/`` holds the trained weights, buffers and optimizer states (DCP), where
training stood (``progress.json``) and each process's random state (``random-<rank>.json``). With
DeepSpeed, which shards in its own way, its folder ``deepspeed/`` is there instead of DCP's files.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from fmrilm.errors import InputError
from fmrilm.files import check_seal, files_in, open_to_others, write_seal
from fmrilm.readers import check_types, read_json, reading

if TYPE_CHECKING:
    from fmrilm.training.objective import State

DEEPSPEED = "deepspeed"
PROGRESS = "progress.json"
_REMEDY = "restore the checkpoint, or train anew with --overwrite"
_PROGRESS = {
    "epoch": int, "step": int, "best_loss": int | float, "best_epoch": int, "run": str,
    "processes": int,
}  # fmt: skip


def save_checkpoint(
    accelerator: Accelerator, folder: Path, objective: nn.Module, optimizer: Any, state: State
) -> None:
    """Write ``folder/epoch-<n>`` under its name only when complete, then drop the older ones."""
    partial, final = folder / "partial", folder / f"epoch-{state.epoch:04d}"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    if accelerator.state.deepspeed_plugin is not None:
        objective.save_checkpoint(str(partial), tag=DEEPSPEED)  # type: ignore[operator]
    else:
        import torch.distributed.checkpoint as dcp

        with _alone_or_not() as alone, _signals_held(), _unwrapped():
            dcp.save(_state(objective, optimizer), checkpoint_id=partial, no_dist=alone)
    rank = accelerator.process_index
    _write_json(partial / f"random-{rank}.json", _random_state())
    if accelerator.is_main_process:
        where = {**asdict(state), "processes": accelerator.num_processes}
        _write_json(partial / PROGRESS, where)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        names = [name for name in files_in(partial) if not name.startswith(DEEPSPEED)]
        write_seal(partial, names)
        os.replace(partial, final)
        for older in folder.glob("epoch-*"):
            if older != final:
                shutil.rmtree(older)
    accelerator.wait_for_everyone()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM act when the block has ended.

    Raised inside torch's writer they leave it open, and it aborts the process at its exit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, _: object) -> None:
        held.append(number)

    before = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for which in held:
        os.kill(os.getpid(), which)


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Raise what stopped torch's checkpoint (a full disk), not its list of failures."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        raise cause from None


def load_checkpoint(
    accelerator: Accelerator, path: Path, objective: nn.Module, optimizer: Any, state: State
) -> None:
    """Put objective, optimizer and state where a checkpoint stood.

    With as many processes as wrote it each also gets its random state back.

    Raises
    ------
    InputError
        If the checkpoint is of another run, or DeepSpeed's and there are more or fewer processes.
    """
    where = read_json(path / PROGRESS, _REMEDY)
    check_types(where, _PROGRESS, path / PROGRESS, _REMEDY)
    check_seal(path, _REMEDY)
    if where.get("run", "") != state.run:
        raise InputError(
            f"{path} is the checkpoint of another run that was in this folder before: start anew "
            "with --overwrite"
        )
    same = where.pop("processes") == accelerator.num_processes
    state.__dict__.update({name: where[name] for name in asdict(state)})
    with_deepspeed = accelerator.state.deepspeed_plugin is not None
    if with_deepspeed != (path / DEEPSPEED).is_dir() or (with_deepspeed and not same):
        raise InputError(
            f"{path} was written {'without' if with_deepspeed else 'with'} DeepSpeed or by another "
            "number of processes, which only torch's own checkpoints allow: `fmrilm merge` the run"
        )
    if with_deepspeed:
        objective.load_checkpoint(str(path), tag=DEEPSPEED)  # type: ignore[operator]
    else:
        load_weights(path, objective, optimizer)
    if same:
        _set_random_state(path / f"random-{accelerator.process_index}.json")
    else:
        torch.manual_seed(1_000_003 * state.epoch + accelerator.process_index)


def load_weights(path: Path, objective: nn.Module, optimizer: Any = None) -> None:
    """Read the weights of a DCP checkpoint, and the optimizer's state, whoever wrote it."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

    from fmrilm.training.checkpoint_reader import CheckpointPlanner, CheckpointReader

    found = _state(objective, optimizer)
    with reading(path, _REMEDY), _named_cause(), _alone_or_not() as alone:
        reader, planner = CheckpointReader(path), CheckpointPlanner()
        dcp.load(found, storage_reader=reader, planner=planner, no_dist=alone)
        set_state_dict(
            objective,
            [] if optimizer is None else optimizer,
            model_state_dict=found["model"],
            optim_state_dict=found.get("optimizer", {}),
            options=StateDictOptions(ignore_frozen_params=True, strict=False),
        )


def merge_checkpoint(path: Path, objective: nn.Module) -> None:
    """Read the weights of a checkpoint, sharded or not, into an objective in one process."""
    check_seal(path, _REMEDY)
    if not (path / DEEPSPEED).is_dir():
        load_weights(path, objective)
        return
    try:
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    except ImportError:
        raise InputError(
            f"{path} is DeepSpeed's: pip install 'fmrilm[deepspeed]' to merge it"
        ) from None
    weights = get_fp32_state_dict_from_zero_checkpoint(str(path), tag=DEEPSPEED)
    unknown = set(weights) - set(objective.state_dict())
    if unknown:
        raise InputError(f"{path} does not fit the run's configuration: {sorted(unknown)[:3]}")
    objective.load_state_dict(weights, strict=False)


def latest_checkpoint(folder: Path, instead: str = "") -> Path:
    """Return the last complete checkpoint of a folder.

    Parameters
    ----------
    folder : path
    instead : str
        What the user can do if there is none; by default what helps who wants to resume.

    Raises
    ------
    InputError
        If there is none.
    """
    checkpoints = sorted(folder.glob("epoch-*"))
    if not checkpoints:
        instead = instead or (
            "leave out --resume (and add --overwrite if it holds anything else of a run)"
        )
        raise InputError(f"{folder} holds no checkpoint: {instead}")
    return checkpoints[-1]


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder that takes the place of ``folder`` only when it is complete."""
    partial, old = folder.with_suffix(".partial"), folder.with_suffix(".old")
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    write(partial)
    open_to_others(partial)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def _state(objective: nn.Module, optimizer: Any) -> dict[str, Any]:
    """Return what is trained and, if asked for, the optimizer's state; frozen weights stay out."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    weights, states = get_state_dict(
        objective,
        [] if optimizer is None else optimizer,
        options=StateDictOptions(ignore_frozen_params=True),
    )
    return {"model": weights} if optimizer is None else {"model": weights, "optimizer": states}


@contextmanager
def _named_cause() -> Iterator[None]:
    """Raise what went wrong in a process instead of torch's error, which only names the process."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error


@contextmanager
def _alone_or_not() -> Iterator[bool]:
    """Give whether there is one process only, and keep torch from warning that there is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*assuming the intent is to")
        yield not (torch.distributed.is_available() and torch.distributed.is_initialized())


def _random_state() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  (the one global generator)
    found: dict[str, Any] = {
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
    }
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state().tolist()
    return found


def _set_random_state(path: Path) -> None:
    found = read_json(path, _REMEDY)
    with reading(path, _REMEDY):
        torch.set_rng_state(torch.tensor(found["torch"], dtype=torch.uint8))
        version, keys, gauss = found["python"]
        random.setstate((version, tuple(keys), gauss))
        np.random.set_state(tuple(found["numpy"]))  # noqa: NPY002
        if "cuda" in found and torch.cuda.is_available():
            torch.cuda.set_rng_state(torch.tensor(found["cuda"], dtype=torch.uint8))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
