import pytest
import torch

from fmrilm.config.schema import TokenizerConfig
from fmrilm.errors import InputError
from fmrilm.tokenizer.encoder import connectivity, from_patches, to_patches
from fmrilm.tokenizer.quantizers import QUANTIZERS, build_quantizer
from fmrilm.tokenizer.tokenizer import FMRITokenizer


def small(**options) -> TokenizerConfig:
    values = {
        "num_rois": 6,
        "num_timestamp": 160,
        "patch_size": 32,
        "enc_cls": "vit_tiny",
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 2,
        "codebook_size": 32,
        "code_dim": 8,
        "fsq_levels": [4, 3, 3],
    }
    return TokenizerConfig(**{**values, **options})


def make(**options) -> FMRITokenizer:
    torch.manual_seed(0)
    return FMRITokenizer(small(**options)).eval()


def test_patches_are_time_major_and_come_back():
    x = torch.arange(2 * 3 * 8.0).view(2, 3, 8)
    tokens = to_patches(x, 4)
    assert torch.equal(tokens[0, 1], x[0, 1, :4])  # second token: second region, first patch
    assert torch.equal(tokens[0, 3], x[0, 0, 4:])
    assert torch.equal(from_patches(tokens, 3), x)


def test_connectivity_agrees_with_numpy():
    import numpy as np

    x = torch.randn(2, 5, 40)
    mask = torch.ones(2, 5, dtype=torch.bool)
    z = connectivity(x, mask, 20)
    assert z.shape == (2, 2, 5, 5)
    expected = np.arctanh(np.corrcoef(x[0].numpy()) - np.eye(5))
    np.testing.assert_allclose(z[0, 1].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("patch_size", [32, 80, 160])
def test_permuting_regions_and_their_embeddings_together_changes_nothing(patch_size):
    tokenizer = make(patch_size=patch_size)
    order = torch.randperm(6)
    x = torch.randn(2, 6, 160)
    before = tokenizer.encode(x)
    for name in ("roi_embed", "profile_embed"):
        embed = getattr(tokenizer, name)
        embed.data = embed.data[order]
    after = tokenizer.encode(x[:, order])
    steps = 160 // patch_size
    expected = before.view(2, steps, 6, -1)[:, :, order].flatten(1, 2)
    torch.testing.assert_close(after, expected)


@pytest.mark.parametrize("patch_size", [32, 80])
def test_no_time_patch_sees_a_later_one(patch_size):
    tokenizer = make(patch_size=patch_size)
    x = torch.randn(1, 6, 160)
    changed = x.clone()
    changed[:, :, patch_size:] = torch.randn(1, 6, 160 - patch_size)
    first = slice(0, 6)
    torch.testing.assert_close(tokenizer.encode(x)[:, first], tokenizer.encode(changed)[:, first])
    assert not torch.allclose(tokenizer.encode(x)[:, 6:], tokenizer.encode(changed)[:, 6:])


def test_a_masked_region_changes_nothing_elsewhere():
    tokenizer = make(patch_size=80)
    mask = torch.ones(1, 6, dtype=torch.bool)
    mask[:, 2] = False
    x = torch.randn(1, 6, 160)
    noisy = x.clone()
    noisy[:, 2] = 100.0
    used = tokenizer.token_mask(mask)[0]
    torch.testing.assert_close(
        tokenizer.encode(x, mask)[:, used], tokenizer.encode(noisy, mask)[:, used]
    )
    assert tokenizer.reconstruct(noisy, mask)[0, 2].abs().max() == 0


def test_a_frozen_tokenizer_gives_the_same_codes_twice():
    tokenizer = make(drop_path=0.5)
    x = torch.randn(2, 6, 160)
    assert torch.equal(tokenizer.encode(x), tokenizer.encode(x))


@pytest.mark.parametrize("quantizer", list(QUANTIZERS))
def test_decoding_the_indices_is_decoding_the_codes(quantizer):
    tokenizer = make(quantizer=quantizer)
    x = torch.randn(2, 6, 160)
    again = tokenizer.decode_indices(tokenizer.tokenize(x))
    torch.testing.assert_close(again, tokenizer.reconstruct(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_every_quantizer_keeps_the_contract(name):
    torch.manual_seed(0)
    quantizer = build_quantizer(small(quantizer=name))
    x = torch.randn(2, 30, 16, requires_grad=True)
    output = quantizer(x)
    assert output.codes.shape == x.shape
    assert output.indices.shape == (2, 30)
    assert output.indices.dtype == torch.long
    assert output.loss.ndim == 0
    assert output.indices.min() >= 0
    assert output.indices.max() < quantizer.codebook_size
    output.codes.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    quantizer.eval()
    codes = quantizer.indices_to_codes(quantizer(x).indices)
    torch.testing.assert_close(codes, quantizer(x).codes, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_every_index_of_every_quantizer_has_its_own_code(name):
    quantizer = build_quantizer(small(quantizer=name))
    codes = quantizer.indices_to_codes(torch.arange(quantizer.codebook_size))
    assert len(torch.unique(codes.detach().round(decimals=5), dim=0)) == quantizer.codebook_size


def test_fsq_indices_cover_the_grid_and_nothing_else():
    quantizer = build_quantizer(small(quantizer="fsq"))
    wide = 5 * torch.randn(1, 20000, 16)
    assert set(quantizer(wide).indices.flatten().tolist()) <= set(range(36))
    assert len(quantizer(wide).indices.unique()) > 30


def test_the_codebook_follows_the_data_and_ignores_masked_tokens():
    torch.manual_seed(0)
    quantizer = build_quantizer(small(decay=0.5)).train()
    x = torch.randn(4, 30, 16)
    valid = torch.ones(4, 30, dtype=torch.bool)
    valid[:, 15:] = False
    other = torch.where(valid[:, :, None], x, 50.0)
    state = {k: v.clone() for k, v in quantizer.state_dict().items()}
    rng = torch.get_rng_state()
    quantizer(x, valid)
    first = quantizer.codebook.clone()
    assert not torch.equal(first, state["codebook"])
    quantizer.load_state_dict(state)
    torch.set_rng_state(rng)
    quantizer(other, valid)
    assert torch.equal(first, quantizer.codebook)


def test_k_means_start_leaves_no_duplicate_codes_and_lowers_the_distance():
    torch.manual_seed(0)
    quantizer = build_quantizer(small())
    x = torch.randn(500, 16)
    before = quantizer(x[None]).loss
    quantizer.init_codebook(x)
    assert len(torch.unique(quantizer.codebook, dim=0)) == 32
    assert quantizer(x[None]).loss < before
    with pytest.raises(ValueError, match="too few"):
        quantizer.init_codebook(x[:5])


def test_dead_codes_come_back_to_life():
    torch.manual_seed(0)
    quantizer = build_quantizer(small(decay=0.5)).train()
    cluster = torch.randn(16)
    for _ in range(60):
        quantizer(cluster + 0.3 * torch.randn(4, 50, 16))
    used = len(quantizer(cluster + 0.3 * torch.randn(20, 50, 16)).indices.unique())
    assert used > 16


def test_saved_and_read_again_it_gives_the_same_codes(tmp_path):
    tokenizer = make()
    tokenizer.save_pretrained(tmp_path)
    x = torch.randn(2, 6, 160)
    assert torch.equal(FMRITokenizer.from_pretrained(tmp_path).tokenize(x), tokenizer.tokenize(x))


def test_scans_of_another_shape_are_refused_in_one_sentence():
    with pytest.raises(InputError, match=r"5 regions x 160 time points.*built for 6 x 160"):
        make().encode(torch.randn(1, 5, 160))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="fmrilm train tokenizer"):
        FMRITokenizer.from_pretrained(tmp_path)
