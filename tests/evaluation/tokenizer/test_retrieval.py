import json

import numpy as np
import pytest

from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.tokenizer.retrieval import AMONG, ranking
from fmrilm.training.build import train_stage
from small import make_cohort


def test_who_finds_his_own_text_has_rank_one():
    rng = np.random.default_rng(0)
    assert ranking(np.eye(50), rng) == {"top1": 1.0, "top5": 1.0, "median_rank": 1.0}
    assert ranking(1 - np.eye(50), rng)["median_rank"] == AMONG
    assert ranking(np.eye(6) - 1, rng)["top1"] == 1.0  # fewer than a group


def test_noise_finds_the_own_text_by_chance():
    rng = np.random.default_rng(0)
    found = ranking(rng.standard_normal((400, 400)), rng)
    assert found["top1"] == pytest.approx(1 / AMONG, abs=0.02)
    assert found["median_rank"] == pytest.approx((AMONG + 1) / 2, abs=1.5)


def test_texts_that_fit_equally_well_are_no_success():
    assert ranking(np.ones((40, 40)), np.random.default_rng(0))["top5"] == 0


def test_a_run_with_alignment_tells_how_well_scans_find_their_texts(runs):
    evaluate([str(runs["tokenizer"])], split="test")
    content = json.loads((runs["tokenizer"] / "evaluation/tokenizer.json").read_text())
    found = content["results"][0]["retrieval"]
    assert found["people"] == found["among"] > 2
    assert 0 <= found["top1"] <= found["top5"] <= 1
    assert set(found["shuffled"]) == {"top1", "top5", "median_rank"}


def test_phrases_and_regions_are_read_again_from_the_run_folder(tiny_options, tmp_path):
    options = [*tiny_options, "tokenizer.text_tower=ngrams", "tokenizer.pooling=regions"]
    run = train_stage("tokenizer", [*options, "train.epochs=1"], output=tmp_path / "tok")
    first, second = (evaluate_again(run)["results"][0]["retrieval"] for _ in range(2))
    assert first == second
    assert first["among"] > 2


def evaluate_again(run):
    evaluate([str(run)], split="val")
    return json.loads((run / "evaluation/tokenizer.json").read_text())


def test_a_cohort_without_descriptions_is_scored_without_them(runs, tmp_path, capsys):
    other = make_cohort(tmp_path / "other", subjects=30, name="other")
    evaluate([str(runs["tokenizer"])], datasets=str(other), output=str(tmp_path / "scores"))
    found = json.loads((tmp_path / "scores/tokenizer.json").read_text())["results"][0]
    assert "fmrilm describe" in found["retrieval"]["reason"]
    assert "not scored" in capsys.readouterr().out
    assert found["tokenizer"]["r2"] is not None
