"""Lean norms and gated products: the same values and gradients, less kept."""

import copy

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fmrilm.config.schema import LMConfig
from fmrilm.lm.adapters import add_lora
from fmrilm.lm.cpu.lean import make_lean

SIZE = {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


def build(name: str):
    torch.manual_seed(0)
    if name == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**SIZE, head_dim=8))
    elif name == "llama":
        model = LlamaForCausalLM(LlamaConfig(**SIZE))
    else:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4))
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.train()


def results(model, x):
    """Return the output, and the gradients of what goes in and of all weights."""
    x = x.clone().requires_grad_()
    output = model(inputs_embeds=x).logits
    trained = [p for p in model.parameters() if p.requires_grad and not p.is_meta]
    grads = torch.autograd.grad(output.square().mean(), [x, *trained], allow_unused=True)
    return [output.detach(), *(g for g in grads if g is not None)]


def kept_bytes(model, x) -> int:
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor):
        place = tensor.untyped_storage()
        if place.data_ptr() not in weights:
            kept[place.data_ptr()] = place.nbytes()
            alive.append(tensor)
        return tensor

    alive: list = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(inputs_embeds=x.clone().requires_grad_())
    return sum(kept.values())


@pytest.mark.parametrize("name", ["qwen3", "llama"])
@pytest.mark.parametrize("frozen", [False, True])
def test_values_and_gradients_are_the_same_and_less_is_kept(name, frozen):
    model = build(name)
    if frozen:
        model = add_lora(model, LMConfig(lora_dropout=0.0))
    lean = copy.deepcopy(model)
    assert make_lean(lean) >= 2 * 3 + 1  # two norms and a product per layer, a norm at the end
    x = torch.randn(2, 33, 32)
    for one, other in zip(results(model, x), results(lean, x), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    # Of frozen weights a norm keeps no more than its input anyway: the product is what is gained.
    assert kept_bytes(lean, x) < (0.85 if frozen else 0.78) * kept_bytes(model, x)


def test_half_precision_stays_half_precision():
    model = build("qwen3").to(torch.bfloat16)
    lean = copy.deepcopy(model)
    make_lean(lean)
    x = torch.randn(1, 5, 32, dtype=torch.bfloat16)
    one, other = results(model, x), results(lean, x)
    assert other[0].dtype == torch.bfloat16
    torch.testing.assert_close(other[0], one[0], rtol=0.05, atol=0.05)


def test_a_model_with_other_parts_is_left_as_it_is():
    assert make_lean(build("gpt2")) == 0


def test_a_norm_that_only_looks_like_one_is_left_as_it_is():
    class Shifted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.eps = torch.nn.Parameter(torch.zeros(8)), 1e-6

        def forward(self, x):  # as Gemma's: the weight is an offset from one
            return torch.nn.functional.rms_norm(x, (8,), 1 + self.weight, self.eps)

    norm = Shifted()
    assert make_lean(torch.nn.Sequential(norm)) == 0
    assert "forward" not in vars(norm)


def test_a_copy_has_its_own_weights():
    model = build("llama")
    make_lean(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.norm.weight.zero_()
    x = torch.randn(1, 4, 32)
    assert model(inputs_embeds=x).logits.abs().sum() > 0
    assert other(inputs_embeds=x).logits.abs().sum() == 0
