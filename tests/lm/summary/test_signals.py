"""Quantized numbers, components, families and evidence as tokens of the language model."""

import json

import numpy as np
import pytest
import torch

from fmrilm.config.schema import EVIDENCE_SLOTS, SIGNAL_FAMILIES, LMConfig, TokenizerConfig
from fmrilm.errors import InputError
from fmrilm.lm.fmrilm import FMRILM
from fmrilm.lm.summary.families import FAMILIES
from fmrilm.lm.summary.readers import fit_reader
from fmrilm.lm.summary.signals import WIDTH, SignalSummary

R, T, WIDTH_OF_LM = 20, 60, 24


def scans(count=30, seed=0):
    torch.manual_seed(seed)
    mixing = torch.eye(R) + 0.3 * torch.rand(R, R)
    fmri = torch.einsum("rs,bst->brt", mixing, torch.randn(count, R, T))
    mask = torch.ones(count, R, dtype=torch.bool)
    mask[0, 3] = False
    return fmri, mask


def make(profile=True, fitted=True):
    torch.manual_seed(0)
    scan = TokenizerConfig(num_rois=R, num_timestamp=T, patch_size=20, roi_profile=profile)
    summary = SignalSummary(scan, LMConfig(summary_components=16), WIDTH_OF_LM).eval()
    if fitted:
        fmri, mask = scans()
        summary.fit(lambda: [(fmri[:16], mask[:16]), (fmri[16:], mask[16:])])
    return summary


def test_there_is_a_token_for_every_family_and_question():
    assert len(FAMILIES) == SIGNAL_FAMILIES
    assert LMConfig().num_summary_tokens == 4 + SIGNAL_FAMILIES + EVIDENCE_SLOTS
    assert LMConfig(summary="components").num_summary_tokens == 4
    assert LMConfig(summary_tokens=0).num_summary_tokens == 0
    tokens = make()(*scans(5, 1))
    assert tokens.shape == (5, LMConfig().num_summary_tokens, WIDTH_OF_LM)
    assert torch.isfinite(tokens).all()


def test_numbers_are_one_of_five_levels_and_use_them():
    numbers = make().numbers(*scans())
    assert set(numbers.unique().tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert abs(float(numbers.mean())) < 0.1
    assert 0.8 < float(numbers.std()) < 1.2


def test_short_windows_have_components_alone():
    summary = make(profile=False)
    assert list(summary.slices) == ["components"]
    whole, of_family = summary._parts(summary.numbers(*scans(4, 2)))
    assert whole.std() > 0
    assert not of_family.any()


def test_an_unfitted_summary_says_the_same_of_every_scan():
    tokens = make(fitted=False)(*scans(4, 3))
    torch.testing.assert_close(tokens, tokens[:1].expand_as(tokens))


def test_a_batch_is_read_as_scan_by_scan():
    summary = make()
    fmri, mask = scans(6, 4)
    alone = torch.cat([summary.numbers(fmri[i : i + 1], mask[i : i + 1]) for i in range(6)])
    assert (alone != summary.numbers(fmri, mask)).float().mean() < 1e-3  # rounding at a step


def test_evidence_reaches_the_tokens_and_can_be_told():
    summary = make()
    fmri, mask = scans(30)
    numbers = summary.numbers(fmri, mask).numpy()
    target = (numbers[:, 5] > 0).astype(float)[:, None]
    reader = fit_reader(numbers, target, np.arange(30), summary.slices)
    before = summary(fmri, mask)
    summary.set_readers([reader])
    evidence = summary.evidence(torch.from_numpy(numbers))
    expected = torch.from_numpy(numbers @ reader.weights + reader.bias).float()
    torch.testing.assert_close(evidence[:, 0, :1], expected, atol=1e-4, rtol=1e-4)
    assert not evidence[:, 1:].any()
    after = summary(fmri, mask)
    first = LMConfig().summary_tokens + SIGNAL_FAMILIES
    torch.testing.assert_close(after[:, :first], before[:, :first])
    told = torch.zeros(30, EVIDENCE_SLOTS, WIDTH)
    told[:, 0, 0] = 3.0
    with summary.telling(told):
        said = summary(fmri, mask)
    torch.testing.assert_close(said[:, first], said[:1, first].expand(30, -1))
    torch.testing.assert_close(summary(fmri, mask), after)


def test_gradients_reach_the_scan():
    summary = make()
    fmri, mask = scans(3, 5)
    fmri[1] = 0  # nothing in it has a spread
    fmri.requires_grad_(True)
    summary(fmri, mask).square().sum().backward()
    assert torch.isfinite(fmri.grad).all()
    assert fmri.grad[0].any()


def test_training_scans_are_told_what_others_say_of_them(runs, cohort_folder, tiny_options):
    """In training the tokens hold the evidence of readers that left the person out."""
    from fmrilm.cohort.cohort import Cohort
    from fmrilm.config.schema import load_config
    from fmrilm.training.stages.language import build_instruct_stage

    config = load_config(overrides=[*tiny_options, "instruct.tasks=[sex]"])
    objective, loader, _ = build_instruct_stage(config, [Cohort(cohort_folder)], runs["align"])
    summary, seen = objective.model.summary, []
    plain = summary.forward

    def watch(fmri, mask):
        own = summary.evidence(summary.numbers(fmri, mask))
        seen.append((own[:, 0, 0], None if summary._given is None else summary._given[:, 0, 0]))
        return plain(fmri, mask)

    summary.forward = watch
    assert objective.model.config.evidence == ["sex"]
    objective.train()
    for batch in loader:
        objective(batch)
    assert all(told is not None for _, told in seen)
    if any(own.std() > 0 for own, _ in seen):
        assert any(not torch.allclose(own, told) for own, told in seen)
    seen.clear()
    objective.eval()
    objective(batch)
    assert seen[0][1] is None


def test_readers_are_saved_with_the_model_and_named(runs, tmp_path):
    model = FMRILM.from_pretrained(runs["instruct"])
    assert model.config.evidence
    model.save_pretrained(tmp_path)
    again = FMRILM.from_pretrained(tmp_path)
    assert again.config.evidence == model.config.evidence
    torch.testing.assert_close(again.summary.reader, model.summary.reader)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"evidence": "sex"}))
    (tmp_path / "sealed.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match="evidence"):
        FMRILM.from_pretrained(tmp_path)
