import pytest
import torch

from fmrilm.config.schema import TokenizerConfig
from fmrilm.tokenizer.quantizers import (
    QUANTIZERS,
    FiniteScalarQuantizer,
    ResidualFSQ,
    build_quantizer,
)
from fmrilm.tokenizer.quantizers.kmeans import nearest
from fmrilm.tokenizer.quantizers.vq import VectorQuantizer
from fmrilm.tokenizer.saved import build_tokenizer
from fmrilm.tokenizer.titok import TiTok
from fmrilm.tokenizer.tokenizer import FMRITokenizer

SMALL = {"num_rois": 6, "num_timestamp": 32, "patch_size": 16, "enc_cls": "vit_tiny"}
SMALL |= {"n_embd": 16, "n_layer": 2, "n_head": 2, "codebook_size": 32, "code_dim": 8}
SMALL |= {"fsq_levels": [4, 3]}


@pytest.mark.parametrize(
    ("levels", "codes"), [([8, 8, 8, 6, 5], 15360), ([7, 5, 5, 5, 5], 4375), ([2, 2], 4)]
)
def test_fsq_has_as_many_codes_as_its_grid_and_reads_its_own_codes(levels, codes):
    quantizer = FiniteScalarQuantizer(8, levels)
    assert quantizer.codebook_size == codes
    indices = torch.randint(codes, (1, 500))
    points = torch.linalg.lstsq(
        quantizer.project_out.weight,
        (quantizer.indices_to_codes(indices[0]) - quantizer.project_out.bias).T,
    ).solution.T
    assert points.min() >= -1.001
    assert points.max() <= 1.001
    for column, count in enumerate(levels):
        assert len(points[:, column].round(decimals=3).unique()) == count


def test_more_residual_stages_leave_less_over():
    x = torch.randn(1, 200, 4)
    errors = []
    for stages in (1, 2, 3):
        quantizer = ResidualFSQ(4, (3, 3, 3, 3), stages)
        quantizer.project_in.weight.data = torch.eye(4)
        quantizer.project_out.weight.data = torch.eye(4)
        for layer in (quantizer.project_in, quantizer.project_out):
            layer.bias.data.zero_()
        assert quantizer.codebook_size == 81**stages
        errors.append((quantizer(x).codes - x.tanh()).abs().max().item())
    for stages, error in enumerate(errors, start=1):
        assert error <= 1 / 3**stages + 1e-6  # half a step of the finest grid


def test_nearest_is_nearest():
    vectors, codes = torch.randn(50, 8), torch.randn(20, 8)
    assert torch.equal(nearest(vectors, codes), torch.cdist(vectors, codes).argmin(1))


def test_a_learned_codebook_moves_towards_its_vectors():
    torch.manual_seed(0)
    quantizer = build_quantizer(TokenizerConfig(**SMALL, quantizer="vq_learned"))
    x = torch.randn(4, 30, 16)
    quantizer.init_codebook(x.flatten(0, 1))
    assert len(quantizer(x).indices.unique()) == 32
    quantizer.codebook.data += 0.3 * torch.randn(32, 8)
    before = quantizer(x).loss
    optimizer = torch.optim.SGD([quantizer.codebook], lr=5.0)
    for _ in range(20):
        optimizer.zero_grad()
        quantizer(x).loss.backward()
        optimizer.step()
    assert quantizer(x).loss < 0.9 * before


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_masked_tokens_give_no_loss(name):
    torch.manual_seed(0)
    quantizer = build_quantizer(TokenizerConfig(**SMALL, quantizer=name)).eval()
    x, valid = torch.randn(2, 10, 16), torch.ones(2, 10, dtype=torch.bool)
    valid[:, 5:] = False
    other = torch.where(valid[:, :, None], x, 9.0)
    torch.testing.assert_close(quantizer(x, valid).loss, quantizer(other, valid).loss)


def test_statistics_of_all_processes_are_added_up(monkeypatch):
    """The other process is played by a codebook that saw the other half of the batch."""
    from fmrilm.tokenizer import collectives as processes

    batch = torch.randn(1, 200, 8, generator=torch.Generator().manual_seed(0))

    def learn(x):
        torch.manual_seed(3)
        quantizer = VectorQuantizer(8, 12, 4, decay=0.8).train()
        quantizer(x)
        return quantizer

    sent: list[torch.Tensor] = []
    monkeypatch.setattr(processes, "is_distributed", lambda: True)
    monkeypatch.setattr(processes.dist, "all_reduce", lambda t: sent.append(t.clone()))
    learn(batch[:, 100:])
    monkeypatch.setattr(processes.dist, "all_reduce", lambda t: t.add_(sent.pop(0)))
    shared = learn(batch[:, :100])
    monkeypatch.setattr(processes, "is_distributed", lambda: False)
    whole = learn(batch)
    torch.testing.assert_close(shared.codebook, whole.codebook)
    torch.testing.assert_close(shared.ema_count, whole.ema_count)


def titok(**options) -> FMRITokenizer:
    torch.manual_seed(0)
    return build_tokenizer(TokenizerConfig(**SMALL, num_latent_tokens=5, **options)).eval()


@pytest.mark.parametrize("quantizer", list(QUANTIZERS))
def test_titok_keeps_the_contract_of_a_tokenizer(quantizer, tmp_path):
    tokenizer = titok(quantizer=quantizer)
    x = torch.randn(2, 6, 32)
    indices = tokenizer.tokenize(x)
    assert isinstance(tokenizer, TiTok)
    assert indices.shape == (2, tokenizer.num_tokens) == (2, 5)
    torch.testing.assert_close(
        tokenizer.decode_indices(indices), tokenizer.reconstruct(x), atol=1e-5, rtol=1e-4
    )
    tokenizer.save_pretrained(tmp_path)
    again = FMRITokenizer.from_pretrained(tmp_path)
    assert torch.equal(again.tokenize(x), indices)


def test_titok_sees_nothing_of_a_masked_region():
    tokenizer = titok()
    mask = torch.ones(1, 6, dtype=torch.bool)
    mask[:, 2] = False
    x = torch.randn(1, 6, 32)
    noisy = x.clone()
    noisy[:, 2] = 100.0
    torch.testing.assert_close(tokenizer.encode(x, mask), tokenizer.encode(noisy, mask))
    without = tokenizer.encode(x)
    assert not torch.allclose(tokenizer.encode(x, mask), without)
    assert tokenizer.reconstruct(noisy, mask)[0, 2].abs().max() == 0


def test_every_latent_token_reaches_every_patch():
    tokenizer = titok(quantizer="fsq")
    codes = torch.randn(1, 5, 16, requires_grad=True)
    tokenizer.decode(codes)[0, 3, 20].backward()
    assert (codes.grad[0].abs().sum(1) > 0).all()
