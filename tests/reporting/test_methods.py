"""The methods text of a run says what its records say, and admits what they do not."""

import json
import re
import shutil

import pytest

from fmrilm.errors import InputError
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.reporting.methods import methods


@pytest.fixture
def text(runs, capsys) -> str:
    said = methods(str(runs["instruct"]))
    assert capsys.readouterr().out == said
    return said


def test_every_stage_is_told_in_order(text):
    places = [text.index(f"Step {number}:") for number in (1, 2, 3)]
    assert places == sorted(places)
    for about in ("reconstruct the series", "describe scans", "answer questions"):
        assert about in text
    assert "1 epochs" not in text


def test_synthetic_scans_are_called_synthetic_and_counts_are_those_of_training(runs, text):
    from fmrilm.lineage.trained_on import read_trained_on

    seen = read_trained_on(runs["instruct"])
    train = seen.loc[seen["split"] == "train", "participant_id"].nunique()
    assert "SYNTHETIC scans (simulated; no measured data)" in text
    assert f"{len(seen)} scans of {train} people for training" in text


def test_what_the_run_does_not_know_is_left_to_the_author(text):
    assert "How its series were made before: [TO BE GIVEN]" in text


def test_preparation_is_told_from_the_recipe(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["instruct"], run)
    path = run / "model/processor.json"
    content = json.loads(path.read_text())
    name = next(iter(content["recipes"]))
    content["recipes"][name]["preparation"] = {
        "strategy": "scrubbing", "confounds": {"motion": "full"}, "high_pass": 0.01,
        "dummy_scans": "4", "length": "windows", "n_timepoints": 64, "target_t_r": 2.0,
    }  # fmt: skip
    path.write_text(json.dumps(content))
    text = methods(str(run))
    for words in ("`scrubbing`) with motion=full", "high-pass 0.01 Hz", "(4 a scan) were dropped",
                  "cut into windows of 64 time points", "Abraham et al."):  # fmt: skip
        assert words in text


def test_scores_stand_beside_baselines_and_controls(run, capsys):
    evaluate([str(run)], baselines="fc", free_text=False, scrutiny=False)
    results = json.loads((run / "evaluation/metrics.json").read_text())["results"]
    text = methods(str(run), output=str(run / "methods.md"))
    assert (run / "methods.md").read_text() == text
    for result in results:
        assert f"**{result['task']}**" in text
        for predictor in result["predictors"].values():
            assert predictor["title"] in text
        assert result["verdict"]["beats_plain"]["text"] in text
        assert result["readings"]["mark"] in text
    assert "Not evaluated" not in text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run folder"):
        methods(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="lineage"):
        methods(str(tmp_path))


def test_damaged_records_are_one_sentence_not_a_traceback(run):
    evaluate([str(run)], baselines="fc", free_text=False, scrutiny=False)
    path = run / "evaluation/metrics.json"
    for content in ("{}", "[]", '{"results": [{}]}'):
        path.write_text(content)
        with pytest.raises(InputError, match=r"metrics\.json"):
            methods(str(run))


def test_an_encoder_without_codes_is_not_said_to_be_quantized(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["tokenizer"], run)
    path = run / "config.yaml"
    text = re.sub(r"quantizer: \w+", "quantizer: none", path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")
    assert "quantized by" not in methods(str(run))
    assert "quantized by" in methods(str(runs["tokenizer"]))
