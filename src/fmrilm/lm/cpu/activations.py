"""What a forward pass keeps for its backward pass, in half the memory.

Activations are stored as bfloat16 and computed with as they were. The loss is the same; gradients
carry the rounding of bfloat16, three significant digits of each activation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SMALLEST = 2**14  # numbers; smaller tensors are kept as they are
RECENT = 8  # tensors that are remembered: several operations keep the same one, or parts of it


def half_activations(network: nn.Module) -> Any:
    """Return a context in which forward passes keep activations as bfloat16.

    Parameters
    ----------
    network : nn.Module
        Its weights are kept as they are.
    """
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    return torch.autograd.graph.saved_tensors_hooks(_packer(weights), _unpack)


def _packer(weights: set[int]) -> Callable[[Tensor], Any]:
    # The originals are remembered too, so that their memory is not given to another tensor.
    recent: deque[tuple[Tensor, int, Tensor]] = deque(maxlen=RECENT)

    def pack(x: Tensor) -> Any:
        place = x.untyped_storage().data_ptr()
        if x.dtype != torch.float32 or x.numel() < SMALLEST or place in weights:
            return x
        layout = (x.shape, x.stride(), x.storage_offset())
        for original, version, half in recent:
            if original.untyped_storage().data_ptr() == place and x._version == version:
                return half, layout
        whole = x.new_empty(0).set_(x.untyped_storage())  # type: ignore[call-overload]
        half = whole.to(torch.bfloat16)
        recent.append((x, x._version, half))
        return half, layout

    return pack


def _unpack(packed: Any) -> Tensor:
    if isinstance(packed, Tensor):
        return packed
    half, layout = packed
    return half.to(torch.float32).as_strided(*layout)
