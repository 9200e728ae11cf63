"""Summary tokens: principal components of a scan that text may read and the scan may not."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.lm.fmrilm import FMRILM
from fmrilm.lm.summary.components import ScanSummary
from fmrilm.tasks import TASKS, build_prompt
from fmrilm.tokenizer.encoder import connectivity
from fmrilm.training.data.dataset import ScanDataset
from small import POINTS


def fitted(x: torch.Tensor, mask: torch.Tensor, of_connectivity: bool = False, components: int = 5):
    summary = ScanSummary(x.shape[1:], of_connectivity, count=2, components=components, width=8)
    half = len(x) // 2
    summary.fit(lambda: iter([(x[:half], mask[:half]), (x[half:], mask[half:])]))
    return summary


@pytest.mark.parametrize("of_connectivity", [False, True])
def test_scores_are_the_principal_components_of_the_scans(of_connectivity):
    torch.manual_seed(0)
    x = torch.randn(3, 30, 4, 40).cumsum(0)[2] * torch.linspace(0.2, 2, 160).view(4, 40)
    mask = torch.ones(30, 4, dtype=torch.bool)
    summary = fitted(x, mask, of_connectivity)
    whole = torch.cat([connectivity(x, mask, 40)[:, 0], x.mean(2, keepdim=True)], 2)
    whole = whole if of_connectivity else x
    expected = PCA(5).fit_transform(whole.flatten(1).double().numpy())
    scores = summary.scores(x, mask).numpy()
    agreement = np.corrcoef(scores.T, expected.T)[:5, 5:]
    np.testing.assert_allclose(np.abs(np.diag(agreement)), 1, atol=1e-4)
    np.testing.assert_allclose(scores.var(0), expected.var(0) / expected.var(0).mean(), rtol=1e-3)
    assert summary(x, mask).shape == (30, 2, 8)


def test_more_components_than_scans_stay_zero():
    x, mask = torch.randn(5, 3, 4), torch.ones(5, 3, dtype=torch.bool)
    scores = fitted(x, mask, components=10).scores(x, mask)
    assert torch.isfinite(scores).all()
    assert (scores[:, 4:] == 0).all()
    assert (scores[:, :4].abs().sum(0) > 0).all()


@pytest.mark.parametrize("of_connectivity", [False, True])
def test_what_is_masked_counts_as_average(of_connectivity):
    x, mask = torch.randn(20, 3, 12), torch.ones(20, 3, dtype=torch.bool)
    mask[::2, 1] = False
    rubbish = torch.where(mask[:, :, None], x, torch.randn(20, 3, 12) * 99)
    scores = [fitted(one, mask, of_connectivity).scores(one, mask) for one in (x, rubbish)]
    torch.testing.assert_close(*scores)


def test_a_cohort_of_equal_scans_gives_zeros():
    x, mask = torch.ones(6, 3, 4), torch.ones(6, 3, dtype=torch.bool)
    assert (fitted(x, mask).scores(x, mask) == 0).all()


def scans_of(folder, count: int = 4):
    cohort = Cohort(folder)
    rows = [(0, int(i)) for i in cohort.indices("train")[:count]]
    items = [ScanDataset([cohort], rows, POINTS)[i] for i in range(count)]
    return torch.stack([i["fmri"] for i in items]), torch.stack([i["roi_mask"] for i in items])


def test_training_fits_it_and_keeps_it(runs):
    models = [FMRILM.from_pretrained(runs[stage] / "model") for stage in ("align", "instruct")]
    axes = [model.summary.axes for model in models]
    assert axes[0].abs().sum() > 0
    assert torch.equal(*axes)


def test_text_sees_the_summary_and_the_scan_does_not(runs, cohort_folder):
    model = FMRILM.from_pretrained(runs["instruct"] / "model")
    fmri, mask = scans_of(cohort_folder)
    prompts = [build_prompt(TASKS["sex"])] * 4
    before = model.score(fmri, mask, prompts, ["male", "female"])
    codes = model.code_loss(fmri, mask, 0.5)
    batch = model.text.batch([model.text.prompt_ids(p) for p in prompts])

    def states() -> torch.Tensor:
        scan = model.project(fmri, mask)
        with model.last_states() as found, torch.no_grad():
            model.read(batch["input_ids"], batch["attention_mask"], scan, mask, use_cache=False)
        return found[0][batch["input_ids"] < 0].view(4, -1, found[0].shape[-1])

    grid = model.tokenizer.num_tokens
    scan_states = states()[:, :grid]
    with torch.no_grad():
        model.summary.proj.bias += 1.0
    assert not torch.allclose(model.score(fmri, mask, prompts, ["male", "female"]), before)
    torch.testing.assert_close(states()[:, :grid], scan_states)
    torch.testing.assert_close(model.code_loss(fmri, mask, 0.5), codes)


def test_hidden_tokens_leave_the_summary_alone(runs, cohort_folder):
    model = FMRILM.from_pretrained(runs["instruct"] / "model")
    model.config = dataclasses.replace(
        model.config, lm=dataclasses.replace(model.config.lm, token_dropout=1.0)
    )
    fmri, mask = scans_of(cohort_folder)
    text = model.text
    ids = [text.prompt_ids(build_prompt(TASKS["sex"])) for _ in range(4)]
    batch = text.batch(ids, [text.answer_ids("male")] * 4)

    def loss() -> float:
        with torch.no_grad():
            return model(**batch, fmri=fmri, roi_mask=mask).item()

    seen, hidden = loss(), model.train() and loss()
    with torch.no_grad():
        model.roi_embed += torch.randn_like(model.roi_embed)
    assert hidden == loss()  # nothing of a scan's own tokens is read
    assert hidden != seen
    model.eval()
    assert loss() != seen


def test_left_out_tokens_cost_nothing_and_are_as_if_masked(runs, cohort_folder):
    model = FMRILM.from_pretrained(runs["instruct"] / "model")
    fmri, mask = scans_of(cohort_folder)
    text, grid = model.text, model.tokenizer.num_tokens
    ids = [text.prompt_ids(build_prompt(TASKS["sex"], variant)) for variant in range(4)]
    batch = text.batch(ids, [text.answer_ids("male"), *[text.answer_ids("female")] * 3])

    scan = model.project(fmri, mask)
    unusable = torch.zeros_like(mask)
    with torch.no_grad():
        logits = model.read(
            batch["input_ids"], batch["attention_mask"], scan, unusable, use_cache=False
        )[0].logits
    supervised = batch["labels"][:, 1:] != -100
    masked = torch.nn.functional.cross_entropy(
        logits[:, :-1][supervised], batch["labels"][:, 1:][supervised]
    )
    model.config = dataclasses.replace(
        model.config, lm=dataclasses.replace(model.config.lm, token_dropout=1.0)
    )
    model.train()
    with model.last_states() as states:
        left_out = model(**batch, fmri=fmri, roi_mask=mask)
    assert states[0].shape[1] == batch["input_ids"].shape[1] - grid
    torch.testing.assert_close(left_out, masked, atol=1e-5, rtol=1e-5)
    left_out.backward()
    assert all(p.grad is not None for p in model.projector.parameters())


@torch.no_grad()
def test_another_scans_summary_may_stand_behind_the_tokens(runs, cohort_folder):
    model = FMRILM.from_pretrained(runs["instruct"] / "model")
    fmri, mask = scans_of(cohort_folder)
    others = fmri.roll(1, 0) * 2, mask.roll(1, 0)
    n = model.tokenizer.config.num_tokens
    swapped = model.project(fmri, mask, summary_scan=others)
    torch.testing.assert_close(swapped[:, :n], model.project(fmri, mask)[:, :n])
    torch.testing.assert_close(swapped[:, n:], model.project(*others)[:, n:])
    prompts, answers = [build_prompt(TASKS["sex"])] * len(fmri), TASKS["sex"].candidates
    own = model.score(fmri, mask, prompts, answers)
    torch.testing.assert_close(
        model.score(fmri, mask, prompts, answers, summary_scan=(fmri, mask)), own
    )
    told = model.score(fmri, mask, prompts, answers, summary_scan=others)
    assert (told - own).abs().max() > 1e-6
    [asked] = model.ask(fmri, mask, [(prompts[0], answers)], summary_scan=others)
    torch.testing.assert_close(asked, told)
    values = [model.expect(fmri, mask, prompts, [1, 2], one) for one in (None, others)]
    assert (values[0] - values[1]).abs().max() > 1e-7
    model.summary = None
    with pytest.raises(InputError, match="no summary tokens"):
        model.project(fmri, mask, summary_scan=others)
