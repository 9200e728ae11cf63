"""The loss in pieces is the loss from all logits, and so are its gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from fmrilm.lm.logits import ROWS, is_linear, linear_cross_entropy

WIDE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("n", [1, 2 * ROWS + 3])
def test_loss_and_gradient_are_those_of_all_logits(frozen, n):
    torch.manual_seed(0)
    head = nn.Linear(16, 300, bias=False).requires_grad_(not frozen)
    states = (5 * torch.randn(n, 16)).requires_grad_(True)
    target = torch.randint(300, (n,))
    expected = F.cross_entropy(head(states), target)
    [wanted] = torch.autograd.grad(3 * expected, states)
    loss = linear_cross_entropy(states, head, target)
    (3 * loss).backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states.grad, wanted, atol=1e-6, rtol=1e-4)
    assert (head.weight.grad is None) == frozen


def test_states_in_half_precision_get_gradients_in_half_precision():
    head = nn.Linear(16, 300, bias=False).requires_grad_(False).bfloat16()
    states = torch.randn(5, 16).bfloat16().requires_grad_(True)
    loss = linear_cross_entropy(states, head, torch.arange(5))
    loss.backward()
    assert loss.dtype == torch.float32
    assert states.grad.dtype == torch.bfloat16


def test_capped_logits_are_told_from_linear_ones():
    assert is_linear(Qwen3ForCausalLM(Qwen3Config(**WIDE)))
    capped = Gemma2ForCausalLM(Gemma2Config(**WIDE, final_logit_softcapping=0.1))
    assert not is_linear(capped)
    assert capped.training  # the trial leaves the mode as it was
