import math

import pytest
import torch

from fmrilm.config.schema import TokenizerConfig, TokenizerStageConfig
from fmrilm.errors import InputError
from fmrilm.lm.embedding.descriptions import TextAlignment
from fmrilm.tokenizer.domain import ramp, reverse_gradient
from fmrilm.tokenizer.losses import spectral_loss
from fmrilm.tokenizer.tokenizer import FMRITokenizer
from fmrilm.training.stages.tokenizer import TokenizerObjective

WEIGHTS = ("fc_weight", "profile_weight", "clip_weight", "spectral_weight", "domain_weight")


def make(**options) -> TokenizerObjective:
    torch.manual_seed(0)
    tokenizer = FMRITokenizer(
        TokenizerConfig(
            num_rois=5,
            num_timestamp=24,
            patch_size=12,
            enc_cls="vit_tiny",
            n_embd=16,
            n_layer=1,
            n_head=2,
            codebook_size=8,
            code_dim=4,
        )
    )
    values = dict.fromkeys(WEIGHTS, 0.0) | options
    config = TokenizerStageConfig(**values)
    return TokenizerObjective(
        tokenizer, config, torch.randn(6, 10), None, torch.randn(40, 10), planned_scans=12
    ).train()


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "fmri": torch.randn(6, 5, 24, generator=generator),
        "roi_mask": torch.ones(6, 5, dtype=torch.bool),
        "description": torch.arange(6),
    }


@pytest.mark.parametrize("pooling", ["cls", "mean", "map", "regions"])
@pytest.mark.parametrize("kind", ["clip", "siglip", "soft_clip", "soft_siglip"])
def test_a_step_moves_every_parameter_of_every_loss(kind, pooling):
    objective = make(**dict.fromkeys(WEIGHTS, 1.0), clip_loss_type=kind, pooling=pooling)
    objective.start([batch()])
    objective.train()
    before = {name: p.detach().clone() for name, p in objective.named_parameters()}
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(2):
        optimizer.zero_grad()
        objective(batch())["loss"].backward()
        optimizer.step()
    still = [n for n, p in objective.named_parameters() if torch.equal(p, before[n])]
    # A shift changes no softmax, and a key's bias adds the same to all scores of a query.
    assert set(still) <= ({"heads.alignment.shift"} if kind.endswith("clip") else set())


@pytest.mark.parametrize(
    ("weight", "moved"),
    [
        ("clip_weight", "heads.alignment.scan_proj.weight"),
        ("clip_weight", "heads.alignment.log_scale"),
        ("domain_weight", "domain.classifier.0.weight"),
        ("domain_weight", "domain.proj.weight"),
        ("profile_weight", "tokenizer.profile_head.weight"),
        ("spectral_weight", "tokenizer.head.weight"),
        ("fc_weight", "tokenizer.head.weight"),
    ],
)
def test_each_loss_reaches_its_own_head(weight, moved):
    gradients = []
    for value in (0.0, 1.0):
        objective = make(**{weight: value})
        torch.manual_seed(0)
        objective(batch())["loss"].backward()
        found = dict(objective.named_parameters()).get(moved)
        gradients.append(None if found is None or found.grad is None else found.grad.clone())
    assert gradients[1] is not None
    assert gradients[1].abs().sum() > 0
    assert gradients[0] is None or not torch.equal(*gradients)


def test_the_reversal_grows_and_turns_the_sign_for_the_scan_alone():
    assert ramp(0.0) == 0
    assert ramp(0.3) == pytest.approx(2 / (1 + math.exp(-3)) - 1)
    assert ramp(1.0) > 0.999
    x = torch.randn(3, requires_grad=True)
    (reverse_gradient(x, 0.5) * 2).sum().backward()
    assert torch.equal(x.grad, torch.full((3,), -1.0))


def test_how_far_training_has_come_is_counted_in_scans_and_saved():
    objective = make(domain_weight=1.0)
    objective(batch())
    assert objective.state_dict()["scans_seen"] == 6
    objective.eval()
    objective(batch())
    assert objective.scans_seen == 6


def test_domain_confusion_without_words_is_refused():
    objective = make()
    with pytest.raises(InputError, match="clip_weight"):
        TokenizerObjective(objective.tokenizer, TokenizerStageConfig(domain_weight=0.5))


def test_soft_targets_forgive_a_description_that_is_alike():
    torch.manual_seed(0)
    texts = torch.randn(4, 6)
    texts[1] = texts[0] + 0.1 * torch.randn(6)
    for kind in ("clip", "siglip"):
        hard, soft = TextAlignment(6, 6, 6, kind), TextAlignment(6, 6, 6, f"soft_{kind}")
        for head in (hard, soft):
            for layer in (head.scan_proj, head.text_proj):
                torch.nn.init.eye_(layer.weight)
                torch.nn.init.zeros_(layer.bias)
        swapped = texts[[1, 0, 2, 3]]
        cost = [float((h(swapped, texts) - h(texts, texts)).detach()) for h in (hard, soft)]
        assert cost[1] < cost[0]


def test_the_spectral_loss_sees_lost_amplitude_but_no_shift_in_time():
    x, mask = torch.randn(2, 3, 32), torch.ones(2, 3, dtype=torch.bool)
    assert spectral_loss(x.roll(5, 2), x, mask) < 1e-5
    assert spectral_loss(0.5 * x, x, mask) > 0.1
