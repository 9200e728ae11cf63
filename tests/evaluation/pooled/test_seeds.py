import json

import numpy as np
import pytest
import torch

from evaluation_helpers import ScanReader, make_run
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.runs import Run


class Noisy(ScanReader):
    """Reads the scan through noise that depends on the seed."""

    def __init__(self, seed):
        super().__init__()
        self.seed = seed

    def score(self, fmri, roi_mask, prompts, candidates):
        scores = super().score(fmri, roi_mask, prompts, candidates)
        generator = torch.Generator().manual_seed(self.seed)
        return scores + 6 * torch.randn(scores.shape, generator=generator)


@pytest.fixture
def three_runs(tmp_path, planted, monkeypatch):
    monkeypatch.setattr(Run, "load_model", lambda run, *_: Noisy(run.config.train.seed))
    return [
        str(make_run(tmp_path / f"run{seed}", planted, f"train.seed={seed}")) for seed in (1, 2, 3)
    ]


def _options(**options):
    return {
        "samples": 0, "scrutiny": False, "free_text": False, **options
    }  # fmt: skip


def test_runs_that_differ_in_the_seed_alone_are_summed_up(three_runs, capsys):
    results = evaluate(three_runs, json=True, **_options())
    scores = [result.predictors["model"].metrics["auc"].value for result in results]
    assert len(set(scores)) > 1
    printed = capsys.readouterr()
    [summary] = json.loads(printed.out)["seeds"]
    assert summary["seeds"] == [1, 2, 3]
    assert summary["estimate"]["value"] == pytest.approx(np.mean(scores), abs=1e-6)
    assert summary["sd"] == pytest.approx(np.std(scores, ddof=1))
    half = 4.302653 * np.std(scores, ddof=1) / np.sqrt(3)  # t with two degrees of freedom
    assert summary["estimate"]["high"] == pytest.approx(np.mean(scores) + half, abs=1e-5)
    assert "over 3 seeds: AUC" in printed.err


def test_runs_of_another_recipe_are_not(three_runs, tmp_path, planted, capsys):
    other = make_run(tmp_path / "other", planted, "train.seed=4", "train.lr=0.5")
    evaluate([three_runs[0], str(other)], **_options())
    assert "seeds" not in capsys.readouterr().out


def test_json_is_all_that_goes_to_standard_output(three_runs, capsys):
    [result] = evaluate(three_runs[:1], json=True, **_options())
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert content["seeds"] == []
    [found] = content["runs"]
    assert found["results"] == [json.loads(json.dumps(result.to_dict()))]
    assert "fMRI-LM" in printed.err
