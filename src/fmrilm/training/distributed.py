"""Several processes: how a launch is checked, how an objective is spread over them."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DataLoaderConfiguration,
    DeepSpeedPlugin,
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
)
from torch import Tensor, nn

from fmrilm.config.schema import TrainConfig
from fmrilm.errors import InputError
from fmrilm.training.deepspeed import engine_settings
from fmrilm.weights import has_bfloat16

if TYPE_CHECKING:
    from fmrilm.training.objective import Objective


def make_accelerator(config: TrainConfig, output_dir: Path) -> Accelerator:
    """Return the accelerator of a run, after checking that all launched processes take part."""
    check_start(config)
    plugin, precision = None, choose_precision(config.mixed_precision)
    if config.deepspeed is not None:
        plugin = DeepSpeedPlugin(
            hf_ds_config=engine_settings(Path(config.deepspeed), precision),
            gradient_clipping=config.grad_clip,
        )
    has_gpu = torch.accelerator.is_available()
    handlers: list[Any] = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    if plugin is not None and not has_gpu:
        handlers.append(InitProcessGroupKwargs(backend="gloo"))
    accelerator = Accelerator(
        # Without a GPU a launcher's processes find each other only if this is said; and accelerate
        # leaves DeepSpeed out if it is.
        cpu=not has_gpu and plugin is None,
        mixed_precision=precision,
        log_with=config.tracker,
        project_dir=output_dir,
        deepspeed_plugin=plugin,
        kwargs_handlers=handlers,
        # As a plugin: given as a number, the environment would win over it.
        gradient_accumulation_plugin=GradientAccumulationPlugin(config.gradient_accumulation_steps),
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True),
        step_scheduler_with_optimizer=False,
    )
    check_world(accelerator.num_processes)
    return accelerator


def check_launch() -> None:
    """Raise :class:`InputError` at a launch of several processes that starts only one."""
    env = os.environ
    if "ACCELERATE_MIXED_PRECISION" in env and "MASTER_ADDR" in env and "WORLD_SIZE" not in env:
        raise InputError(
            "accelerate launch was asked for several processes and started one, as it does on a "
            "CPU: add --multi_gpu, which starts them without a GPU too, or use `torchrun "
            "--nproc_per_node 2 -m fmrilm train ...`"
        )


def check_launched(config: TrainConfig) -> None:
    """Raise :class:`InputError` if ``accelerate launch`` was given what only we can be given."""
    env = os.environ
    steps = env.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    if steps not in (None, "auto", str(config.gradient_accumulation_steps)):
        raise InputError(
            f"accelerate launch was given --gradient_accumulation_steps {steps}, "
            f"train.gradient_accumulation_steps is {config.gradient_accumulation_steps}: give it "
            "behind `train`"
        )
    for name, ours in (
        ("ACCELERATE_USE_FSDP", "train.parallel=fsdp"),
        ("ACCELERATE_USE_DEEPSPEED", "train.deepspeed=FILE"),
        ("ACCELERATE_USE_MEGATRON_LM", "train.parallel=fsdp"),
    ):
        if env.get(name, "false").lower() == "true":
            raise InputError(f"accelerate launch set {name}, which is not read: use {ours}")
    if env.get("ACCELERATE_DYNAMO_BACKEND", "NO").upper() != "NO":
        raise InputError("accelerate launch was given a dynamo backend, which is not supported")


def check_world(num_processes: int) -> None:
    """Raise :class:`InputError` if a launcher asked for more processes than take part."""
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if asked != num_processes:
        raise InputError(
            f"the launcher started {asked} processes, but they train as {num_processes}: start "
            "them with `torchrun --nproc_per_node ... -m fmrilm train ...`"
        )


def choose_precision(asked: str | None) -> str:
    """Return no, bf16 or fp16: what was asked for, by us or by ``accelerate launch``.

    ``auto`` is bf16 where the processor computes in it, else no; None is what the launch says.

    Raises
    ------
    InputError
        If both say something and contradict each other, or the launch asks for something else.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")  # "no" also where none was named
    if launched not in ("no", "bf16", "fp16"):
        raise InputError(f"accelerate launch --mixed_precision={launched}: use no, bf16 or fp16")
    if launched != "no" and asked not in (None, "auto", launched):
        raise InputError(
            f"train.mixed_precision is {asked!r}, accelerate launch was given {launched!r}: give "
            "one of them"
        )
    if asked is None or launched != "no":
        return launched
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        return "bf16" if has_bfloat16() else "no"
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


def check_start(config: TrainConfig) -> None:
    """Raise :class:`InputError` if training cannot start: before anything is loaded."""
    check_launch()
    check_launched(config)
    check_tracker(config.tracker)
    if config.deepspeed is not None:
        check_deepspeed(config)


def check_deepspeed(config: TrainConfig) -> None:
    """Raise :class:`InputError` if ``train.deepspeed`` cannot be followed."""
    from importlib.util import find_spec

    path = Path(str(config.deepspeed))
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: give a DeepSpeed JSON as train.deepspeed")
    if config.parallel != "ddp":
        raise InputError("train.deepspeed and train.parallel=fsdp exclude each other")
    if find_spec("deepspeed") is None:
        raise InputError("train.deepspeed needs DeepSpeed: pip install 'fmrilm[deepspeed]'")
    if "RANK" not in os.environ:
        raise InputError(
            "train.deepspeed is for processes that torchrun, deepspeed or `accelerate launch "
            "--multi_gpu` started"
        )
    settings = engine_settings(path, choose_precision(config.mixed_precision))
    steps = settings.get("gradient_accumulation_steps", "auto")
    if steps not in ("auto", config.gradient_accumulation_steps):
        raise InputError(
            f"{path} has gradient_accumulation_steps {steps}, train.gradient_accumulation_steps is "
            f'{config.gradient_accumulation_steps}: write "auto" into the file'
        )


def is_sharded(accelerator: Accelerator, config: TrainConfig) -> bool:
    """Return whether every process holds only a part of the weights."""
    if accelerator.num_processes == 1:
        return False
    plugin = accelerator.state.deepspeed_plugin if config.deepspeed else None
    return config.parallel == "fsdp" or (plugin is not None and plugin.zero_stage == 3)


def shard(objective: nn.Module, accelerator: Accelerator) -> None:
    """Spread the weights of an objective over all processes (FSDP2), block by block."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)
    policy = MixedPrecisionPolicy(param_dtype=half)
    for module in list(objective.modules()):
        if isinstance(module, nn.ModuleList) and len(module) > 1:
            for block in module:
                if any(True for _ in block.parameters()):
                    fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(objective, mesh=mesh, mp_policy=policy)


def whole_state(objective: nn.Module, accelerator: Accelerator) -> dict[str, Tensor]:
    """Return all weights on the main process, on the CPU; all processes have to call it."""
    if accelerator.state.deepspeed_plugin is not None:
        return accelerator.get_state_dict(objective)
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(objective, options=options)
    return state


class Exporter:
    """Writes the model of an objective, gathering its weights first where they are spread.

    Parameters
    ----------
    objective : Objective
        As it was built, before it is spread.
    is_sharded : bool
    """

    def __init__(self, objective: Objective, is_sharded: bool) -> None:
        self.is_sharded = is_sharded
        # The main process keeps a copy with all weights in memory to write from.
        self._whole = copy.deepcopy(objective) if is_sharded else objective

    def collect(self, objective: nn.Module, accelerator: Accelerator) -> None:
        """Bring all weights to the main process; all processes have to call it."""
        if not self.is_sharded:
            return
        state = whole_state(objective, accelerator)
        if accelerator.is_main_process:
            self._whole.load_state_dict(state)

    def write(self, folder: Path) -> None:
        """Write the model; for the main process."""
        self._whole.export(folder)
        if self._whole.processor is not None:
            self._whole.processor.save_pretrained(folder)
