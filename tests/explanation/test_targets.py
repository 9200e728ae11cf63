import numpy as np
import pytest
import torch

from fmrilm.errors import InputError
from fmrilm.evaluation.runs import open_run
from fmrilm.explanation.answers import contrast_of, expected_value, head_value, log_odds
from fmrilm.explanation.attribution import RegionMap, integrated_gradients, reference_scan
from fmrilm.explanation.explain import explain
from fmrilm.lm.answer_tree import AnswerTree
from fmrilm.tasks import TASKS, build_prompt
from small import POINTS, ROIS

AGE = TASKS["age"]


def _scans(count=3, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.ones((count, ROIS), dtype=bool)
    mask[0, 2] = False
    series = rng.normal(size=(count, ROIS, POINTS)) * mask[:, :, None]
    return series.astype(np.float32), mask


def test_the_expected_number_is_the_one_the_model_gives(runs):
    model = open_run(runs["instruct"]).load_model()
    prompt = build_prompt(AGE, 0, "")
    series, mask = (torch.from_numpy(part) for part in _scans())
    with torch.no_grad():
        found = expected_value(model, prompt, AGE.values)(series, mask)
    expected = model.expect(series, mask, [prompt] * len(series), AGE.values)
    assert torch.allclose(found, expected, atol=1e-3)
    assert found.std() > 1e-3


def test_the_log_odds_are_those_of_the_probabilities_the_model_gives(runs):
    model = open_run(runs["instruct"]).load_model()
    prompt, names = build_prompt(TASKS["flanker_enc"], 0, ""), ["lower", "mean", "much higher"]
    series, mask = (torch.from_numpy(part) for part in _scans())
    share = model.score(series, mask, [prompt] * len(series), names).softmax(-1)
    for index in range(3):
        with torch.no_grad():
            found = log_odds(model, prompt, names, index)(series, mask)
        torch.testing.assert_close(found, torch.logit(share[:, index]), atol=1e-4, rtol=1e-4)


def test_the_shares_of_the_regions_add_up_to_the_change_of_the_number(runs):
    model = open_run(runs["instruct"]).load_model()
    target = expected_value(model, build_prompt(AGE, 0, ""), AGE.values)
    series, mask = _scans()
    other, _ = _scans(seed=1)
    shares, change = integrated_gradients(target, series, mask, other, 48)
    assert np.abs(shares.sum(1) - change).mean() < 0.05 * np.abs(change).mean()


def test_answers_that_begin_alike_share_their_tokens_and_see_only_what_leads_to_them():
    tree = AnswerTree.of([[5, 0], [5, 2, 0], [1, 0, 0, 0], [5, 3, 0]])
    assert tree.tokens.tolist() == [5, 2, 1, 0, 0, 3]
    assert tree.depths.tolist() == [1, 2, 1, 2, 3, 2]
    assert [row.nonzero().flatten().tolist() for row in tree.sees] == [
        [0],
        [0, 1],
        [2],
        [2, 3],
        [2, 3, 4],
        [0, 5],
    ]
    assert tree.owners.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]


def test_people_above_the_median_are_compared_with_those_below_it():
    found = contrast_of(AGE, np.array([20.0, 30.0, 30.0, 41.0]))
    assert found.first.tolist() == [False, False, False, True]
    assert found.second.tolist() == [True, False, False, False]
    assert "median (30)" in found.groups
    classes = contrast_of(TASKS["sex"], np.array([0, 1, 1]), TASKS["sex"].candidates[0])
    assert classes.first.tolist() == [True, False, False]
    assert classes.second.tolist() == [False, True, True]


def test_a_number_is_no_answer_of_its_task_and_a_missing_head_is_refused(runs):
    with pytest.raises(InputError, match="asks for a number, '52' is none of its answers"):
        explain(str(runs["instruct"]), task="age", answer="52")
    with pytest.raises(InputError, match="no head that gives a number"):
        head_value(open_run(runs["instruct"]).load_model(), "")


def test_regions_coupled_by_the_label_are_found_between_those_above_and_below_its_median():
    rng = np.random.default_rng(0)
    ages = rng.integers(20, 80, 40).astype(float)
    series = rng.normal(size=(40, 20, 60)).astype(np.float32)
    shared = rng.normal(size=(40, 1, 60)) * (ages[:, None, None] - 20) / 30
    series[:, :4] += shared.astype(np.float32)

    def number(fmri, roi_mask):
        unit = fmri - fmri.mean(2, keepdim=True)
        unit = unit / unit.norm(dim=2, keepdim=True)
        r = unit @ unit.transpose(1, 2)
        return 40 + 30 * r[:, :4, :4].mean((1, 2)) + r.mean((1, 2))

    reference = np.stack([reference_scan(one, i) for i, one in enumerate(series)])
    mask = np.ones((40, 20), dtype=bool)
    shares, _ = integrated_gradients(number, series, mask, reference, 16)
    groups = contrast_of(AGE, ages)
    used = groups.first | groups.second
    found = RegionMap.from_shares(shares[used], groups.first[used], np.arange(40)[used])
    assert set(np.argsort(-found.contrast)[:4]) == set(range(4))
    assert found.z[:4].min() > 2
