import json

import pytest

from evaluation_helpers import SummaryReader
from fmrilm.evaluation.controls import n_swaps
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.results import Predictor, read_results
from fmrilm.evaluation.runs import Run
from fmrilm.evaluation.verdict import SENTENCES, SUMMARY_READER, Prompt, verdict
from fmrilm.reporting.glance import glance
from fmrilm.reporting.task_view import task_view
from fmrilm.stats.intervals import Estimate
from fmrilm.stats.kinds import KINDS

KIND = KINDS["classes"]
CLEAR, LEVEL, WORSE = (
    Estimate(0.3, 0.2, 0.4),
    Estimate(0.02, -0.05, 0.1),
    Estimate(-0.2, -0.3, -0.1),
)


def _predictor(role, score, gain=None):
    metrics = {"auc": Estimate(score, score - 0.05, min(score + 0.05, 1))}
    return Predictor(role, role, metrics, {"auc": gain} if gain else {})


def _predictors(tokens=0.9, summary=0.5, reader=LEVEL, plain=LEVEL, tokens_gain=LEVEL):
    return {
        "model": _predictor("model", 0.9),
        "majority": _predictor("baseline", 0.5, CLEAR),
        "fc": _predictor("baseline", 0.85, plain),
        SUMMARY_READER: _predictor("baseline", 0.8, reader),
        "text_only": _predictor("control", 0.5, CLEAR),
        "shuffled": _predictor("control", 0.5, CLEAR),
        "tokens_swapped": _predictor("control", tokens, tokens_gain),
        "summary_swapped": _predictor("control", summary, CLEAR),
    }


def test_each_sentence_has_its_paired_differences():
    found = verdict(_predictors(), KIND, Prompt(True, "connectivity"))
    assert [found[name]["holds"] for name in SENTENCES] == [True, False, False]
    assert found["scan_adds"] is True
    assert list(found["tokens_add"]["over"]) == ["tokens_swapped", SUMMARY_READER]
    assert found["tokens_add"]["over"]["tokens_swapped"]["low"] == -0.05
    assert list(found["beats_plain"]["over"]) == ["fc"]
    assert "+0.020 [-0.050, +0.100]" in found["beats_plain"]["text"]


def test_tokens_have_to_beat_the_swap_and_the_linear_reader_of_the_summary():
    prompt = Prompt(True, "connectivity")
    for swap, reader, holds in [(CLEAR, CLEAR, True), (CLEAR, LEVEL, False), (LEVEL, CLEAR, False)]:
        found = verdict(_predictors(tokens_gain=swap, reader=reader), KIND, prompt)
        assert found["tokens_add"]["holds"] is holds


def test_a_model_below_a_plain_one_is_said_to_be_so():
    found = verdict(_predictors(plain=WORSE), KIND, Prompt(True, "connectivity"))
    assert found["beats_plain"]["holds"] is False
    assert "below the best plain model" in found["beats_plain"]["text"]
    assert verdict(_predictors(plain=CLEAR), KIND)["beats_plain"]["holds"] is True
    controls = {name: p for name, p in _predictors().items() if p.role == "control"}
    assert verdict(controls, KIND)["beats_plain"]["holds"] is None


def test_controls_that_cannot_but_be_at_chance_are_called_so():
    same, told = (verdict(_predictors(), KIND, Prompt(facts)) for facts in (False, True))
    assert "the prompt is the same for everybody" in same["reads_scan"]["text"]
    assert "AUC is above 0.5, no more" in same["reads_scan"]["text"]
    assert "the same for everybody" not in told["reads_scan"]["text"]


@pytest.mark.parametrize(
    ("tokens", "summary", "words"),
    [
        (0.9, 0.5, "the summary of connectivity carries it"),
        (0.5, 0.88, "the tokens carry it"),
        (0.88, 0.87, "the tokens or the summary of connectivity alone would do"),
        (0.7, 0.6, "the summary of connectivity carries most of it, the tokens the rest"),
        (0.55, 0.7, "the tokens carry most of it"),
    ],
)
def test_what_carries_the_score_is_said_in_plain_words(tokens, summary, words):
    found = verdict(_predictors(tokens, summary), KIND, Prompt(True, "connectivity"))["carried_by"]
    assert found.startswith(words)
    assert f"with another person's tokens {tokens:.3f}" in found


def test_without_a_summary_the_tokens_are_not_told_apart():
    found = verdict(_predictors(), KIND, Prompt(True, ""))
    assert found["tokens_add"]["holds"] is None
    assert "no summary" in found["tokens_add"]["text"]


def test_few_scans_are_swapped_more_often():
    assert (n_swaps(20), n_swaps(100), n_swaps(1000)) == (3, 2, 1)


@pytest.mark.parametrize(("part", "other"), [("summary", "tokens"), ("tokens", "summary")])
def test_swapping_tells_which_part_of_a_scan_is_read(run, monkeypatch, capsys, part, other):
    monkeypatch.setattr(Run, "load_model", lambda run, *_: SummaryReader(part))
    [result] = evaluate([str(run)])
    scores = {name: p.metrics["auc"].value for name, p in result.predictors.items()}
    assert scores[f"{other}_swapped"] == pytest.approx(scores["model"])
    assert abs(scores[f"{part}_swapped"] - 0.5) < 0.25
    assert scores[SUMMARY_READER] > 0.9
    words = {"summary": "the summary of connectivity carries it", "tokens": "the tokens carry it"}
    assert result.verdict["carried_by"].startswith(words[part])
    assert result.left_out == {}
    shown = " ".join(capsys.readouterr().out.split())
    summary = (run / "evaluation" / "summary.md").read_text()
    for word in ("its own summary + logistic", "tokens swapped", "summary swapped", words[part]):
        assert word in shown
        assert word.split(" ", 1)[1] in summary
    assert task_view(result)["sentences"][-1][1] == result.verdict["carried_by"]
    assert any(chip[1] == "no gain by its tokens shown" for chip in glance(result)["chips"])


def test_rows_that_are_missing_are_named_with_the_reason(run):
    [result] = evaluate([str(run)], output=str(run / "evaluation"))
    assert "no summary tokens" in result.left_out["tokens swapped"]
    assert "Not in the table: " in (run / "evaluation" / "summary.md").read_text()
    assert read_results(run / "evaluation")[0].left_out == result.left_out


def test_an_evaluation_of_an_older_version_is_refused(run):
    evaluate([str(run)])
    path = run / "evaluation" / "metrics.json"
    content = json.loads(path.read_text())
    del content["results"][0]["verdict"]["reads_scan"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="older version"):
        read_results(run / "evaluation")
