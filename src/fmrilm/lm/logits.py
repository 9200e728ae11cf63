"""Cross-entropy over a large vocabulary, without ever holding the logits of all tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 128  # tokens whose logits are held at a time


def is_linear(lm: Any) -> bool:
    """Return whether a language model's logits are its output layer applied to its last states.

    Not so where they are scaled or capped afterwards; found out by trying one token.
    """
    head = lm.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.bias is not None:
        return False
    weight, found = lm.get_input_embeddings().weight, []
    token = torch.linspace(-1, 1, weight.shape[1], device=weight.device, dtype=weight.dtype)
    handle = lm.base_model.register_forward_hook(lambda _m, _a, out: found.append(out[0]))
    was_training = lm.training
    try:
        with torch.no_grad():
            return torch.equal(lm.eval()(inputs_embeds=token[None, None]).logits, head(found[0]))
    finally:
        handle.remove()
        lm.train(was_training)


def linear_cross_entropy(states: Tensor, head: nn.Module, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of tokens (n,) from their last states (n, D).

    Computed for :data:`ROWS` tokens at a time, gradients included, where the output layer is frozen
    and linear; else from all logits.
    """
    # A layer that is spread over processes has no weight of its own outside its forward pass.
    whole = type(head) is nn.Linear and head.weight.shape == (head.out_features, head.in_features)
    if not whole or head.bias is not None or head.weight.requires_grad:
        return F.cross_entropy(head(states).float(), target)
    return _LinearCrossEntropy.apply(states, head.weight, target)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        total = states.new_zeros((), dtype=torch.float32)
        grads = []
        for some, right in zip(states.split(ROWS), target.split(ROWS), strict=True):
            logits = F.linear(some, weight).float()  # (rows, V)
            top = logits.amax(1, keepdim=True)
            picked = logits.gather(1, right[:, None]) - top
            share = logits.sub_(top).exp_()
            norm = share.sum(1, keepdim=True)
            total += (norm.log() - picked).sum()
            if ctx.needs_input_grad[0]:
                share.div_(norm)[torch.arange(len(right), device=right.device), right] -= 1
                grads.append(F.linear(share.to(weight.dtype), weight.T).to(states.dtype))
        if grads:
            ctx.save_for_backward(torch.cat(grads).div_(len(states)))
        return total / len(states)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        [of_states] = ctx.saved_tensors
        return of_states * grad.to(of_states.dtype), None, None
