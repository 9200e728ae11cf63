"""What several processes that train one model tell each other about their parts of a batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_processes(x: Tensor) -> None:
    """Add up ``x`` over all processes, in place."""
    if is_distributed():
        dist.all_reduce(x)


def join_rows(x: Tensor) -> Tensor:
    """Return the rows (n, ...) of all processes, which have equally many, one after the other.

    Gradients reach the process that a row is of.
    """
    if not is_distributed():
        return x
    rows: Tensor = _JoinRows.apply(x)
    return rows


class _JoinRows(torch.autograd.Function):
    """The rows of all processes; a process gets the gradients of its own, added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


@torch.no_grad()
def choose_rows(x: Tensor, count: int) -> Tensor:
    """Return random rows of all processes' ``x`` (n, d), the same ones in every process.

    They are those that one process with all rows would choose.
    """
    if not is_distributed():
        return x[torch.randint(len(x), (count,), device=x.device)]
    rank, sizes = dist.get_rank(), x.new_zeros(dist.get_world_size(), dtype=torch.long)
    sizes[rank] = len(x)
    dist.all_reduce(sizes)
    chosen = torch.randint(int(sizes.sum()), (count,), device=x.device)
    dist.broadcast(chosen, 0)  # random numbers of the processes may have parted
    place = chosen - sizes[:rank].sum()
    mine = (place >= 0) & (place < len(x))
    rows = torch.where(mine[:, None], x[place.clamp(0, len(x) - 1)], 0)
    dist.all_reduce(rows)
    return rows
