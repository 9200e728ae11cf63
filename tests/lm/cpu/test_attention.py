"""Attention in segments is attention with the dense mask."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from fmrilm.lm.cpu.attention import NAME, ROWS, use_segments
from fmrilm.tokenizer.masks import attention_bias, positions


def network(kind: str):
    torch.manual_seed(0)
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=512)
        ).eval()
    wide = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=50, **wide, **heads)).eval()


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
@pytest.mark.parametrize("scan", [(3, 15), (0, 0)])
def test_segments_give_the_states_and_gradients_of_the_dense_mask(kind, scan):
    B, L, rois = 2, 15 + 2 * ROWS + 9, 6
    lm = network(kind)
    is_scan = torch.zeros(B, L, dtype=torch.bool)
    is_scan[:, slice(*scan)] = True  # two time steps
    valid = torch.ones(B, L, dtype=torch.bool)
    valid[1, :2] = False  # left padding
    position = positions(is_scan, valid, rois)
    found = []
    for scan_end in (None, scan[1]):
        embeds = torch.randn(B, L, 32, generator=torch.Generator().manual_seed(1))
        embeds.requires_grad_(True)
        options = {} if scan_end is None else {"scan_end": scan_end}
        if options:
            assert use_segments(lm)
        bias = attention_bias(position, position, valid, embeds.dtype)
        logits = lm(
            inputs_embeds=embeds, attention_mask=bias, position_ids=position, **options
        ).logits
        logits[valid].square().mean().backward()
        found.append((logits[valid].detach(), embeds.grad[valid]))
    for dense, cut in zip(*found, strict=True):
        torch.testing.assert_close(dense, cut, atol=1e-5, rtol=1e-4)


def test_a_model_that_does_not_run_sdpa_is_left_alone():
    lm = network("qwen3")
    lm.set_attn_implementation("eager")
    assert not use_segments(lm)
    assert lm.config._attn_implementation == "eager" != NAME
