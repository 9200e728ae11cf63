"""Summary tokens: principal components of a scan that text may read and the scan may not."""

import dataclasses

import numpy as np
import torch
from sklearn.decomposition import PCA

from fmrilm.data.cohort import Cohort
from fmrilm.data.dataset import ScanDataset
from fmrilm.models.fmrilm import FMRILM
from fmrilm.models.summary import ScanSummary
from fmrilm.tasks import TASKS, build_prompt
from small import POINTS


def test_scores_are_the_principal_components_of_the_scans():
    torch.manual_seed(0)
    features = torch.randn(30, 4, 6) * torch.linspace(0.2, 2, 24).view(4, 6)
    usable = torch.ones(30, 4, dtype=torch.bool)
    summary = ScanSummary(4, 6, count=2, components=5, width=8)
    summary.fit(lambda: iter([(features[:20], usable[:20]), (features[20:], usable[20:])]))
    scores = summary.scores(features)
    expected = PCA(5).fit_transform(features.flatten(1).double().numpy())
    agreement = np.corrcoef(scores.T.numpy(), expected.T)[:5, 5:]
    np.testing.assert_allclose(np.abs(np.diag(agreement)), 1, atol=1e-4)
    variance = scores.square().mean(0).numpy()
    np.testing.assert_allclose(variance, expected.var(0) / expected.var(0).mean(), rtol=1e-3)
    assert summary(features).shape == (30, 2, 8)


def test_more_components_than_scans_stay_zero():
    features, usable = torch.randn(5, 3, 4), torch.ones(5, 3, dtype=torch.bool)
    summary = ScanSummary(3, 4, 1, components=10, width=4)
    summary.fit(lambda: iter([(features, usable)]))
    scores = summary.scores(features)
    assert torch.isfinite(scores).all()
    assert (scores[:, 4:] == 0).all()
    assert (scores[:, :4].abs().sum(0) > 0).all()


def test_a_masked_token_counts_as_average():
    features, usable = torch.randn(20, 3, 4), torch.ones(20, 3, dtype=torch.bool)
    usable[::2, 1] = False
    rubbish = torch.where(usable[:, :, None], features, 99.0)
    summaries = [ScanSummary(3, 4, 1, 6, 4) for _ in range(2)]
    for summary, x in zip(summaries, (features, rubbish), strict=True):
        summary.fit(lambda x=x: iter([(x, usable)]))
    first, second = summaries
    torch.testing.assert_close(first.scores(features, usable), second.scores(rubbish, usable))


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
        scan = model.project(model.features(fmri, mask), mask)
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
