"""Norms and gated products of a language model that keep less for the backward pass.

A backward pass needs the input of a root-mean-square norm and one number per row, and of a gated
product (SwiGLU; Shazeer 2020, arXiv 2002.05202) its two factors. Written as separate operations
both keep intermediate results too, an eighth of all that two layers of Qwen3-0.6B's shape with
frozen weights keep. Values and gradients are the same to rounding, norms computed in float32.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def make_lean(network: nn.Module) -> int:
    """Replace what can be replaced inside a network, in place; return how many modules were.

    No module is asked for its name: one that behaves like a norm or a gated product when it is
    tried is taken to be one.
    """
    found = 0
    module: Any
    for module in network.modules():
        epsilon = _epsilon_of_norm(module)
        if epsilon is not None:
            module.lean_epsilon = epsilon
            module.forward = MethodType(_norm_forward, module)
            found += 1
        elif _is_gated(module):
            module.forward = MethodType(_gated_forward, module)
            found += 1
    return found


@torch.no_grad()
def _epsilon_of_norm(module: Any) -> float | None:
    """Return the epsilon of a root-mean-square norm; None if the module is something else."""
    weight: Any = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    is_scale = isinstance(weight, Tensor) and weight.ndim == 1 and not hasattr(module, "bias")
    if not is_scale or not isinstance(epsilon, float) or weight.is_meta:
        return None
    x = torch.linspace(-2, 3, len(weight), dtype=weight.dtype, device=weight.device)[None]
    y = module(x)
    same = isinstance(y, Tensor) and torch.allclose(y, _RMSNorm.apply(x, weight, epsilon), 1e-5)
    return epsilon if same else None


@torch.no_grad()
def _is_gated(module: Any) -> bool:
    parts = ("gate_proj", "up_proj", "down_proj", "act_fn")
    if not all(isinstance(getattr(module, name, None), nn.Module) for name in parts):
        return False
    x = torch.linspace(-3, 3, 7)
    width = module.gate_proj.in_features
    if not torch.equal(module.act_fn(x), F.silu(x)):
        return False
    weight = module.gate_proj.weight
    if weight.is_meta:
        return False
    x = torch.linspace(-2, 3, width, dtype=weight.dtype, device=weight.device)[None]
    was_training = module.training
    try:
        expected = module.eval()(x)
        return torch.allclose(expected, _gated_forward(module, x), 1e-4, 1e-6)
    finally:
        module.train(was_training)


def _norm_forward(self: Any, hidden_states: Tensor) -> Tensor:
    return _RMSNorm.apply(hidden_states, self.weight, self.lean_epsilon)


def _gated_forward(self: Any, x: Tensor) -> Tensor:
    return self.down_proj(_SwiGLU.apply(self.gate_proj(x), self.up_proj(x)))


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = x.float()
        size = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
        scale = size.div_(x.shape[-1]).add_(epsilon).rsqrt_()  # (..., 1)
        ctx.save_for_backward(x, weight, scale)
        return weight * (wide * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:  # type: ignore[override]
        x, weight, scale = ctx.saved_tensors
        wide = x.float()
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (grad * (wide * scale)).flatten(0, -2).sum(0).to(weight.dtype)
        g = grad * weight
        along = torch.einsum("...d,...d->...", g.float(), wide)[..., None]
        along.mul_(scale.pow(3)).div_(x.shape[-1])
        return (g * scale).sub_(wide * along).to(x.dtype), of_weight, None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        gate, up = ctx.saved_tensors
        of_up = F.silu(gate).mul_(grad)
        return torch.ops.aten.silu_backward(grad * up, gate), of_up
