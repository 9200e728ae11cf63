import dataclasses

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from fmrilm.config.schema import TokenizerConfig, load_config
from fmrilm.errors import InputError
from fmrilm.tokenizer.encoder import Sight, attend
from fmrilm.tokenizer.tokenizer import FMRITokenizer

R, T = 6, 32
CENTROIDS = torch.randn(R, 3, generator=torch.Generator().manual_seed(1)) * 40


def make(**options) -> FMRITokenizer:
    torch.manual_seed(0)
    values = {"num_rois": R, "num_timestamp": T, "patch_size": 16, "enc_cls": "vit_tiny"}
    values |= {"n_embd": 16, "n_layer": 2, "n_head": 2, "codebook_size": 32, "code_dim": 8}
    tokenizer = FMRITokenizer(TokenizerConfig(**values | options)).eval()
    if tokenizer.uses_coords:
        tokenizer.set_centroids(CENTROIDS)
    return tokenizer


@pytest.mark.parametrize(
    ("name", "size", "millions"),
    [
        ("vit_tiny", (96, 3, 4), 0.3),
        ("vit_small", (384, 12, 6), 21.3),
        ("vit_base", (768, 12, 12), 85.1),
        ("vit_large", (1024, 24, 16), 302.3),
    ],
)
def test_presets_have_the_published_sizes(name, size, millions):
    with torch.device("meta"):
        tokenizer = FMRITokenizer(TokenizerConfig(enc_cls=name, roi_profile=False))
    assert tokenizer.config.size == size
    count = sum(p.numel() for p in tokenizer.encoder.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("patch_size", [1, 2, 4, 8, 16, 32])
def test_any_divisor_is_a_patch_size(patch_size):
    tokenizer = make(patch_size=patch_size)
    assert tokenizer.tokenize(torch.randn(1, R, T)).shape == (1, R * T // patch_size)


@pytest.mark.parametrize("gate", ["none", "headwise", "elementwise"])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_attention_options_are_what_plain_formulas_give(gate, qk_norm):
    tokenizer = make(gate_attn=gate, qk_norm=qk_norm)
    attention = tokenizer.encoder.blocks[0].attn
    x = torch.randn(2, 5, 16)
    rows = attention.qkv(x)
    assert rows.shape[-1] == 48 + {"none": 0, "headwise": 2, "elementwise": 16}[gate]
    expected = torch.zeros(2, 5, 16)
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        q, k, v = (rows[..., 16 * i : 16 * i + 16][..., part] for i in range(3))
        if qk_norm:
            q, k = (torch.nn.functional.layer_norm(one, (8,), eps=1e-6) for one in (q, k))
        out = (q @ k.transpose(1, 2) / 8**0.5).softmax(-1) @ v
        if gate == "headwise":
            out = out * rows[..., 48 + head : 49 + head].sigmoid()
        if gate == "elementwise":
            out = out * rows[..., 48:][..., part].sigmoid()
        expected[..., part] = out
    torch.testing.assert_close(
        attention(x, Sight()), attention.proj(expected), atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("hidden", [0, 3])
def test_attention_step_by_step_is_attention_under_a_mask(hidden):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 12, 8, requires_grad=True) for _ in range(3))
    usable = torch.ones(2, 12, dtype=torch.bool)
    usable[1, 4 : 4 + hidden] = False
    step = torch.arange(12) // 4
    seen = (step[:, None] >= step[None, :]) & usable[:, None, None, :]
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    found = attend(q, k, v, Sight.of(usable, q.dtype, steps=3))
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), (q, k, v)),
        torch.autograd.grad(expected.square().sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_computing_again_changes_no_gradient():
    x = torch.randn(2, R, T)
    gradients = []
    for recompute in ("none", "cheap", "all"):
        tokenizer = make(recompute=recompute, drop_path=0.5, dropout=0.1).train()
        torch.manual_seed(1)
        tokenizer(x).reconstruction.square().mean().backward()
        gradients.append([p.grad for p in tokenizer.parameters() if p.grad is not None])
    for one, *others in zip(*gradients, strict=True):
        for other in others:
            torch.testing.assert_close(one, other)


def test_computing_again_keeps_fewer_tensors():
    kept = []
    for options in (
        {},
        {"recompute": "cheap"},
        {"recompute": "all"},
        {"gradient_checkpointing": 1},
    ):
        tokenizer = make(drop_path=0.0, n_embd=96, n_layer=4, **options).train()
        x = torch.randn(2, R, T)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            loss = tokenizer(x).reconstruction.sum()
        kept.append(sum(event.self_cpu_memory_usage for event in profiler.key_averages()))
        del loss
    assert kept[1] < 0.8 * kept[0]
    assert kept[2] < 0.8 * kept[1]
    assert kept[3] == kept[2]


def test_centroids_replace_the_tables_and_their_order_is_free():
    tokenizer = make(roi_embed="coords")
    x, order = torch.randn(2, R, T), torch.randperm(R)
    before = tokenizer.reconstruct(x)
    moved = tokenizer.for_atlas(CENTROIDS[order])
    torch.testing.assert_close(moved.reconstruct(x[:, order]), before[:, order])
    assert not any(p.shape[0] == R for p in tokenizer.parameters() if p.ndim == 2)


def test_a_tokenizer_with_centroids_goes_on_with_another_atlas(tmp_path):
    tokenizer = make(roi_embed="coords")
    more = torch.cat([CENTROIDS, CENTROIDS + 5])
    moved = tokenizer.for_atlas(more)
    assert moved.config.vq_model == dataclasses.replace(tokenizer.config.vq_model, num_rois=2 * R)
    assert moved.tokenize(torch.randn(1, 2 * R, T)).shape == (1, 4 * R)
    moved.save_pretrained(tmp_path)
    again = FMRITokenizer.from_pretrained(tmp_path)
    assert torch.equal(again.centroids, more)


def test_a_tokenizer_with_a_table_does_not():
    with pytest.raises(InputError, match="roi_embed=coords"):
        make().for_atlas(CENTROIDS)


def test_missing_centroids_are_counted():
    tokenizer = make(roi_embed="coords")
    gaps = CENTROIDS.clone()
    gaps[1] = torch.nan
    with pytest.raises(InputError, match="5 of 6 regions"):
        tokenizer.set_centroids(gaps)


@pytest.mark.parametrize("pair", ["gate_attn=headwize", "roi_embed=coord"])
def test_unknown_options_get_a_suggestion(pair):
    with pytest.raises(InputError, match="did you mean"):
        load_config(overrides=[f"model.vq_model.{pair}"])
