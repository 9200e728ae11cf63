"""Transformer blocks over (time patch, region) tokens, Dosovitskiy et al., arXiv 2010.11929.

Tensor letters: B scans, R regions, S time steps (patches), N = S x R tokens in time-major order,
P time points per patch, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

from fmrilm.tokenizer.masks import sample_mask


class DropPath(nn.Module):
    """Skip a residual branch for random samples (stochastic depth, arXiv 1603.09382)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with whole samples set to zero, the others scaled up."""
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        shape = (len(x),) + (1,) * (x.ndim - 1)
        return x * x.new_empty(shape).bernoulli_(keep) / keep


@dataclass(frozen=True)
class BlockOptions:
    """What may differ between transformer blocks of the same size."""

    drop_path: float = 0.0  # of the last block; earlier ones less
    dropout: float = 0.0  # inside the MLPs
    qk_norm: bool = False  # LayerNorm on the queries and keys of each head
    gate_attn: str = "none"  # none | headwise | elementwise
    recompute: str = "none"  # in the backward pass: none | cheap | all
    eps: float = 1e-6  # of the norms in front of attention and MLP, and of the last


@dataclass(frozen=True)
class Sight:
    """What tokens see: the usable ones of their own and of earlier time steps.

    Attributes
    ----------
    steps : int
        Time steps of equally many tokens each, one after the other.
    bias : Tensor, shape (B, 1, 1, N), optional
        Added to the scores of every token: the dtype's minimum where it is not usable.
    """

    steps: int = 1
    bias: Tensor | None = None

    @classmethod
    def of(cls, usable: Tensor, dtype: torch.dtype, steps: int = 1) -> Sight:
        """Return the sight of tokens of which ``usable`` (B, N) can be seen."""
        if bool(usable.all()):
            return cls(steps)
        bias = torch.zeros(usable.shape, dtype=dtype, device=usable.device)
        bias.masked_fill_(~usable, torch.finfo(dtype).min)
        return cls(steps, bias[:, None, None, :])


def attend(q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> Tensor:
    """Return what queries read (B, heads, N, d); one time step after the other.

    No score of a later step is computed, and no (N, N) mask is made.
    """
    read, size = [], q.shape[2] // sight.steps
    for step, asking in enumerate(q.split(size, 2), 1):
        end = step * size
        bias = None if sight.bias is None else sight.bias[..., :end]
        read.append(
            F.scaled_dot_product_attention(asking, k[:, :, :end], v[:, :, :end], attn_mask=bias)
        )
    return read[0] if len(read) == 1 else torch.cat(read, 2)


class Attention(nn.Module):
    """Multi-head self-attention through torch's fused kernel.

    ``qk_norm`` normalises queries and keys (arXiv 2302.05442); ``gate_attn`` multiplies what
    attention returns by a sigmoid of the input, one gate per head or per feature (arXiv
    2505.06708). The gates' weights are the last rows of ``qkv``.
    """

    def __init__(self, width: int, heads: int, options: BlockOptions) -> None:
        super().__init__()
        self.heads = heads
        self.gates = {"none": 0, "headwise": heads, "elementwise": width}[options.gate_attn]
        self.qkv = nn.Linear(width, 3 * width + self.gates)
        self.proj = nn.Linear(width, width)
        self.q_norm: nn.Module | None = None
        self.k_norm: nn.Module | None = None
        if options.qk_norm:
            self.q_norm = nn.LayerNorm(width // heads, eps=1e-6)
            self.k_norm = nn.LayerNorm(width // heads, eps=1e-6)

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        """Return the attended features, shape (B, N, D)."""
        B, N, D = x.shape
        qkv = self.qkv(x)
        gate = qkv[..., 3 * D :]
        q, k, v = qkv[..., : 3 * D].unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        x = attend(q, k, v, sight)  # (B, heads, N, D / heads)
        x = x.transpose(1, 2)  # (B, N, heads, D / heads)
        if self.gates:
            x = x * gate.sigmoid().view(B, N, self.heads, -1)
        return self.proj(x.reshape(B, N, D))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, drop_path: float, options: BlockOptions) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=options.eps)
        self.attn = Attention(width, heads, options)
        self.norm2 = nn.LayerNorm(width, eps=options.eps)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(options.dropout),
            nn.Linear(4 * width, width),
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        """Return the next layer's tokens, shape (B, N, D)."""
        x = x + self.drop_path(self.attn(self.norm1(x), sight))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Blocks(nn.Module):
    """A stack of blocks with a final norm; the drop-path rate grows with depth."""

    def __init__(
        self, width: int, depth: int, heads: int, options: BlockOptions | None = None
    ) -> None:
        super().__init__()
        options = options or BlockOptions()
        rates = [options.drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(width, heads, rate, options) for rate in rates)
        self.norm = nn.LayerNorm(width, eps=options.eps)
        self.recompute = options.recompute

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        """Return the normalised output tokens, shape (B, N, D)."""
        recompute = self.recompute if self.training and torch.is_grad_enabled() else "none"
        for block in self.blocks:
            if recompute == "none":
                x = block(x, sight)
            else:
                context = keep_products if recompute == "cheap" else noop_context_fn
                x = checkpoint(block, x, sight, use_reentrant=False, context_fn=context)
        return self.norm(x)


PRODUCTS = {  # what is worth keeping for the backward pass: the rest is cheap to compute again
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
}


def keep_products() -> tuple[Any, Any]:
    """Return contexts of a checkpoint that keeps the results of matrix products and attention."""

    def policy(context: Any, operation: Any, *args: Any, **options: Any) -> CheckpointPolicy:
        kept = operation in PRODUCTS
        return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


def init_weights(module: nn.Module) -> None:
    """Give linear layers and embeddings the usual small normal start."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def to_patches(x: Tensor, patch_size: int) -> Tensor:
    """Cut series (B, R, T) into time-major tokens (B, S * R, P)."""
    B, R, T = x.shape
    patches = x.view(B, R, T // patch_size, patch_size)
    return patches.transpose(1, 2).reshape(B, -1, patch_size)


def from_patches(tokens: Tensor, num_rois: int) -> Tensor:
    """Join time-major tokens (B, S * R, P) into series (B, R, T)."""
    B, N, P = tokens.shape
    return tokens.view(B, N // num_rois, num_rois, P).transpose(1, 2).reshape(B, num_rois, -1)


def connectivity(x: Tensor, roi_mask: Tensor, patch_size: int) -> Tensor:
    """Return the regions' correlations up to the end of every time patch.

    Parameters
    ----------
    x : Tensor, shape (B, R, T)
    roi_mask : Tensor of bool, shape (B, R) or (B, R, T)
    patch_size : int
        Time points per patch.

    Returns
    -------
    Tensor, shape (B, S, R, R)
        Fisher z; zero on the diagonal and where a region is masked. Step ``s`` uses only the
        points of patches 0..s, so no step sees a later one.
    """
    steps = []
    mask = sample_mask(roi_mask)
    for end in range(patch_size, x.shape[2] + 1, patch_size):
        real = mask[:, :, :end]
        seen = x[:, :, :end] * real
        count = real.expand_as(seen).sum(2, keepdim=True).clamp_min(1)
        seen = seen - seen.sum(2, keepdim=True) / count
        seen = seen * real
        seen = seen / seen.norm(dim=2, keepdim=True).clamp_min(1e-6)
        steps.append(seen @ seen.transpose(1, 2))
    r = torch.stack(steps, 1)
    r = r.masked_fill(torch.eye(x.shape[1], dtype=torch.bool, device=x.device), 0.0)
    return torch.atanh(r.clamp(-0.97, 0.97))
