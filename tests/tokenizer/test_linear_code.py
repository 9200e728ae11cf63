import numpy as np
import pytest
import torch

from fmrilm.config.schema import TokenizerConfig
from fmrilm.evaluation.tokenizer.codecs import PCACodec
from fmrilm.tokenizer.quantizers import QUANTIZERS
from fmrilm.tokenizer.saved import build_tokenizer
from fmrilm.tokenizer.tokenizer import FMRITokenizer

R, T, P = 12, 48, 16
ALL = torch.ones(1, R, dtype=torch.bool)


def scans(count: int, seed: int) -> torch.Tensor:
    """Return slow series of regions that share a few time courses."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(count, 3, T + 4, generator=generator)
    mixing = torch.randn(R, 3, generator=torch.Generator().manual_seed(9))
    own = torch.randn(count, R, T + 4, generator=generator)
    x = (mixing @ shared + 0.6 * own).unfold(2, 5, 1).mean(3)
    return (x - x.mean(2, keepdim=True)) / x.std(2, keepdim=True)


def start(quantizer: str = "vq", **options) -> FMRITokenizer:
    """Return a tokenizer of 6 bits per token that has seen 80 scans and not been trained."""
    torch.manual_seed(0)
    values = {"num_rois": R, "num_timestamp": T, "patch_size": P, "enc_cls": "vit_tiny"}
    values |= {"n_embd": 32, "n_layer": 1, "n_head": 2, "codebook_size": 64, "code_dim": 13}
    values |= {"fsq_levels": [2] * 6, "roi_profile": False, "num_quantizers": 1}
    tokenizer = build_tokenizer(TokenizerConfig(**values | {"quantizer": quantizer} | options))
    if tokenizer.uses_coords:
        tokenizer.set_centroids(torch.randn(R, 3) * 40)
    train = scans(80, 1)
    tokenizer.eval().fit_linear(lambda: [(x[None], ALL) for x in train], 2500)
    return tokenizer


@pytest.mark.parametrize("quantizer", list(QUANTIZERS))
def test_an_untrained_tokenizer_beats_pca_of_equal_bits_on_new_scans(quantizer):
    tokenizer, held_out = start(quantizer), scans(30, 2)
    assert tokenizer.codebook_size == 64
    indices = tokenizer.tokenize(held_out)
    decoded = tokenizer.decode_indices(indices).detach()
    pca = PCACodec(6).fit(scans(80, 1).reshape(-1, P).numpy())
    coded = torch.from_numpy(pca.reconstruct(held_out.reshape(-1, P).numpy())).view_as(held_out)
    error, error_of_pca = (float((one - held_out).square().mean()) for one in (decoded, coded))
    assert error < 0.93 * error_of_pca
    assert len(np.unique(indices)) > 0.9 * 64


def test_the_transformers_add_nothing_before_the_first_step():
    tokenizer, x = start(), scans(2, 3)
    with torch.no_grad():
        before = tokenizer.reconstruct(x)
        for block in [*tokenizer.encoder.blocks, *tokenizer.decoder.blocks]:
            for parameter in block.parameters():
                parameter.normal_()
    torch.testing.assert_close(tokenizer.reconstruct(x), before)


def test_every_parameter_learns_after_the_start():
    tokenizer, x = start("fsq"), scans(4, 3)
    before = {name: p.detach().clone() for name, p in tokenizer.named_parameters()}
    optimizer = torch.optim.AdamW(tokenizer.train().parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        (tokenizer(x).reconstruction - x).square().mean().backward()
        optimizer.step()
    assert not [n for n, p in tokenizer.named_parameters() if torch.equal(p, before[n])]


def test_a_linear_start_sees_no_masked_region_and_nothing_later():
    tokenizer, x = start("fsq"), scans(1, 4)
    mask = ALL.clone()
    mask[:, 2] = False
    noisy = x.clone()
    noisy[:, 2] = 50.0
    used = tokenizer.token_mask(mask)
    one, other = (tokenizer.tokenize(scan, mask)[used] for scan in (x, noisy))
    assert torch.equal(one, other)
    later = x.clone()
    later[:, :, P:] += 5.0
    assert torch.equal(tokenizer.tokenize(later)[:, :R], tokenizer.tokenize(x)[:, :R])
    assert tokenizer.reconstruct(noisy, mask)[0, 2].abs().max() == 0


def test_a_start_is_saved_with_the_weights(tmp_path):
    tokenizer, x = start("vq_learned"), scans(1, 5)
    tokenizer.save_pretrained(tmp_path)
    assert torch.equal(
        FMRITokenizer.from_pretrained(tmp_path).reconstruct(x), tokenizer.reconstruct(x)
    )


def test_with_centroids_the_start_holds_for_any_atlas():
    tokenizer = start("fsq", roi_embed="coords")
    assert tokenizer.linear.modes is None
    moved = tokenizer.for_atlas(torch.randn(5, 3) * 40)
    assert torch.isfinite(moved.reconstruct(torch.randn(1, 5, T))).all()


@pytest.mark.parametrize("options", [{"data_start": False}, {"num_latent_tokens": 4}])
def test_without_a_data_start_or_region_tokens_there_is_no_linear_code(options):
    config = TokenizerConfig(
        num_rois=R, num_timestamp=T, patch_size=P, enc_cls="vit_tiny", **options
    )
    assert build_tokenizer(config).linear is None
