import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import small
from evaluation_helpers import N_TIMES, ScanReader, make_cohort, make_run
from fmrilm.description.describe import describe
from fmrilm.errors import InputError
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.results import read_results
from fmrilm.evaluation.resume import ScoreLog
from fmrilm.evaluation.runs import Run
from fmrilm.evaluation.scoring import Asked, Scorer
from fmrilm.tasks import TASKS
from fmrilm.training.build import train_stage

FILES = (
    "metrics.json",
    "controls.json",
    "predictions.csv",
    "comparison.csv",
    "generations.json",
    "summary.md",
)


def _fast(run, **options):
    return evaluate([str(run)], **{**options})


def test_a_model_that_reads_the_scan_beats_its_controls(run, capsys):
    [result] = _fast(run)
    scores = {name: p.metrics["auc"].value for name, p in result.predictors.items()}
    assert scores["model"] > 0.95
    assert scores["text_only"] == scores["zero"] == scores["majority"] == 0.5
    assert abs(scores["shuffled"] - 0.5) < 0.2
    assert result.verdict["scan_adds"] is True
    # Twelve people without a mistake show an AUC of 0.78 or more, not one of exactly 1.
    assert result.predictors["text_only"].difference["auc"].low > 0.25
    shown = capsys.readouterr().out
    for word in ("SYNTHETIC", "FC + logistic", "FC + ridge", "shuffled scan", "reads the scan"):
        assert word in shown


def test_the_controls_are_at_chance_on_a_cohort_without_an_effect(tmp_path, model):
    cohort = make_cohort(tmp_path / "flat", effect=0.0, n_subjects=150)
    [result] = _fast(make_run(tmp_path / "run", cohort))
    assert result.verdict["scan_adds"] is False
    for name in ("text_only", "shuffled", "zero"):
        estimate = result.predictors[name].metrics["auc"]
        assert np.isnan(estimate.low) or estimate.low <= 0.5 <= estimate.high


def test_a_planted_prompt_leak_is_exposed_and_strict_exits_with_1(tmp_path, monkeypatch, capsys):
    cohort = make_cohort(tmp_path / "toy", effect=0.0)
    table = pd.read_csv(cohort.folder / "participants.tsv", sep="\t")
    table["site"] = np.where(table["sex"] == "F", "a", "b")  # the label under another name
    table.to_csv(cohort.folder / "participants.tsv", sep="\t", index=False)
    run = make_run(tmp_path / "run", cohort, "instruct.add_desc=[site]")
    monkeypatch.setattr(Run, "load_model", lambda run, *_: ScanReader("text"))
    with pytest.raises(SystemExit) as stopped:
        _fast(run, strict=True)
    assert stopped.value.code == 1
    [result] = read_results(run / "evaluation")
    assert result.predictors["model"].metrics["auc"].value == 1.0
    assert result.predictors["text_only"].metrics["auc"].value == 1.0
    assert result.verdict["scan_adds"] is False
    assert result.verdict["leak"] is True
    shown = capsys.readouterr().out
    for words in ("LEAK?", "the text alone scores as well", "look for a leak"):
        assert words in shown
    assert "look for a leak" in (run / "evaluation" / "summary.md").read_text()


def test_not_sure_stands_where_the_model_is_less_certain_than_on_val_is_enough(run, model):
    [result] = _fast(run)
    told = result.predictions
    sure = told["answer_or_not_sure"] != "not sure"
    abstention = result.scrutiny["calibration"]["abstention"]
    assert sure.sum() == abstention["answered"]
    assert (told["answer_or_not_sure"] == told["predicted"])[sure].all()


def test_files_are_complete_and_a_second_call_writes_the_same(run):
    results = _fast(run)
    folder = run / "evaluation"
    first = {name: (folder / name).read_bytes() for name in FILES}
    _fast(run)
    assert {name: (folder / name).read_bytes() for name in FILES} == first
    table = pd.read_csv(folder / "predictions.csv", dtype={"session_id": str})
    assert len(table) == results[0].n_scans
    assert table[["p_Male", "p_Female"]].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert set(table["split"]) == {"test"}
    assert set(table["predicted"]) <= {"Male", "Female"}
    [again] = read_results(folder)
    assert again.to_dict() == results[0].to_dict()
    controls = json.loads((folder / "controls.json").read_text())["results"][0]["controls"]
    assert set(controls) == {"text_only", "shuffled", "zero"}


def test_text_that_names_no_answer_is_counted_and_never_made_a_class(run, model):
    model.text = "I cannot tell."
    [result] = _fast(run)
    assert result.free_text == {"asked": 24, "parsed": 0, "unparsed": 24, "right": 0}
    assert set(result.predictions["parsed"]) == {"unparsed"}
    assert result.predictors["model"].metrics["accuracy"].value > 0.9  # by probabilities
    [result] = _fast(run, use_allowed_tokens=False)
    assert result.predictors["model"].metrics["accuracy"].value == 0.0
    assert result.predictors["model"].metrics["auc"].value > 0.95


def test_the_batch_size_does_not_change_the_results(run):
    first = _fast(run)[0].predictions
    second = _fast(run, batch_size=5)[0].predictions
    pd.testing.assert_frame_equal(first, second)


def test_shuffled_scans_cost_nothing_where_all_are_asked_the_same(run, model):
    _fast(run, free_text=False, samples=0, scrutiny=False)
    assert model.calls == 24 + 1 + 1  # every scan once, one text-only and one zero prompt


def test_an_interrupted_evaluation_goes_on_where_it_stopped(run, model, monkeypatch):
    whole = _fast(run, batch_size=4)[0].to_dict()
    needed, model.calls = model.calls, 0
    score = ScanReader.score

    def stumble(reader, *arguments):
        if reader.calls >= 12:
            raise KeyboardInterrupt
        return score(reader, *arguments)

    monkeypatch.setattr(ScanReader, "score", stumble)
    with pytest.raises(KeyboardInterrupt):
        _fast(run, batch_size=4)
    [log] = (run / "evaluation" / "unfinished").iterdir()
    with log.open("a") as handle:
        handle.write('["killed in the mid')
    monkeypatch.setattr(ScanReader, "score", score)
    done, model.calls = model.calls, 0
    assert _fast(run, batch_size=4)[0].to_dict() == whole
    assert done == 12
    assert model.calls == needed - done
    assert not (run / "evaluation" / "unfinished").exists()


def test_all_controls_and_wordings_are_run_when_asked_for(run):
    [result] = _fast(run, controls="all", baselines="none")
    controls = ["text_only", "shuffled", "zero", "phase", "sentence"]
    assert list(result.of_role("control")) == controls
    phase = result.predictors["phase"].metrics["auc"]
    assert phase.low < 0.5 < phase.high  # the planted effect is in the connectivity
    wordings = result.scrutiny["wordings"]
    assert len(wordings["wordings"]) == len(TASKS["sex"].questions)
    assert wordings["changed"] == 0.0  # this model does not read the question
    assert list(result.of_role("baseline")) == ["majority"]


def test_every_comparison_has_a_paired_test(run):
    [result] = _fast(run)
    for name, found in result.predictors.items():
        assert (found.test == "") == (name == "model")
    assert result.predictors["text_only"].p_value < 0.01
    assert result.predictors["fc"].p_value > 0.05
    assert "permutation" in result.predictors["fc"].test  # two scans per person


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"split": "tset"}, "unknown split"),
        ({"tasks": "sexx"}, "did you mean 'sex'"),
        ({"tasks": "AD"}, "no label column 'AD'"),
        ({"tasks": "report"}, "no classes"),
        ({"datasets": "tyo"}, "did you mean 'toy'"),
        ({"controls": "every"}, "use standard or all"),
    ],
)
def test_wrong_options_are_one_sentence_before_the_model_is_loaded(
    run, monkeypatch, options, sentence
):
    monkeypatch.setattr(Run, "load_model", lambda run, *_: pytest.fail("loaded"))
    with pytest.raises(InputError, match=sentence):
        _fast(run, **options)


def test_an_empty_split_is_refused(tmp_path, model):
    cohort = make_cohort(tmp_path / "toy", n_subjects=40)
    splits = pd.read_csv(cohort.folder / "splits.tsv", sep="\t")
    splits["split"] = splits["split"].replace("val", "train")
    splits.to_csv(cohort.folder / "splits.tsv", sep="\t", index=False)
    run = make_run(tmp_path / "run", type(cohort)(cohort.folder))
    with pytest.raises(InputError, match="val split is empty"):
        _fast(run)


def test_another_atlas_is_refused(tmp_path, planted, model):
    run = make_run(tmp_path / "run", planted, "model.vq_model.num_rois=7")
    with pytest.raises(InputError, match="6 regions, the model reads 7"):
        _fast(run)


def test_a_cohort_whose_splits_changed_since_training_is_refused(tmp_path, model):
    cohort = make_cohort(tmp_path / "toy", n_subjects=40)
    run = make_run(tmp_path / "run", cohort)
    splits = pd.read_csv(cohort.folder / "splits.tsv", sep="\t")
    splits["split"] = splits["split"].to_numpy()[::-1]
    splits.to_csv(cohort.folder / "splits.tsv", sep="\t", index=False)
    with pytest.raises(InputError, match="may have been trained on"):
        _fast(run)


def test_a_tokenizer_run_answers_no_questions(tmp_path, planted):
    run = make_run(tmp_path / "run", planted, stage="tokenizer")
    with pytest.raises(InputError, match="answers no questions"):
        _fast(run, tasks="sex")


def test_a_folder_that_is_no_run_is_named_on_the_command_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fmrilm", "evaluate", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "config.yaml not found" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("batch_size", "expected"),
    [(12, [(4, 3), (2, 3)]), (4, [(1, 3)] * 6), (2, [(1, 2)] * 6 + [(2, 1)] * 3)],
)
def test_a_scan_is_read_for_all_its_questions_at_once_as_far_as_a_batch_goes(
    planted, batch_size, expected
):
    reads = []

    class Counting(ScanReader):
        def ask(self, fmri, roi_mask, questions):
            reads.append((len(fmri), len(questions)))
            return super().ask(fmri, roi_mask, questions)

    scorer = Scorer(Counting(), planted, N_TIMES, batch_size=batch_size)
    rows = np.arange(6)
    asked = [Asked(rows, [f"question {i}"] * 6, ("Male", "Female")) for i in range(3)]
    scorer.read(asked)
    assert reads == expected
    assert max(scans * questions for scans, questions in reads) <= batch_size
    for one in asked:
        found = scorer.probabilities(one.rows, one.prompts, one.candidates)
        fresh = Scorer(ScanReader(), planted, N_TIMES)
        np.testing.assert_allclose(found, fresh.probabilities(rows, one.prompts, one.candidates))
    assert len(reads) == len(expected)


def test_kept_scores_are_those_of_the_rule_in_force(tmp_path, planted, monkeypatch):
    asked = Asked(np.arange(4), ["question"] * 4, ("Male", "Female"))

    def calls(**options) -> int:
        reader = ScanReader()
        log = ScoreLog(tmp_path / "kept.jsonl")
        Scorer(reader, planted, N_TIMES, log=log, **options).scores(asked)
        return reader.calls

    assert [calls(), calls()] == [4, 0]
    monkeypatch.setattr("fmrilm.evaluation.scoring.SCORING_RULE", "another")
    assert [calls(), calls()] == [4, 0]


def test_length_normalised_scores_are_asked_for_by_name_and_named_in_the_table(run, monkeypatch):
    rules = []

    class Normalising(ScanReader):
        def score(self, fmri, roi_mask, prompts, candidates, normalise=None):
            rules.append(normalise)
            return super().score(fmri, roi_mask, prompts, candidates)

        def ask(self, fmri, roi_mask, questions, normalise=None):
            return [self.score(fmri, roi_mask, *one, normalise=normalise) for one in questions]

    monkeypatch.setattr(Run, "load_model", lambda run, *_: Normalising())
    plain = {"tasks": "sex", "free_text": False, "baselines": "none", "samples": 0}
    _fast(run, **plain)
    assert set(rules) == {None}
    rules.clear()
    [found] = _fast(run, **plain, normalise="length")
    assert set(rules) == {"length"}
    assert found.answered_by == "words per token"
    assert "fMRI-LM, words per token" in (run / "evaluation" / "summary.md").read_text()
    with pytest.raises(InputError, match="unknown normalise 'mean'"):
        _fast(run, tasks="sex", normalise="mean")
    with pytest.raises(InputError, match="task 'age' asks for a number"):
        _fast(run, tasks="age", normalise="length")
    with pytest.raises(InputError, match="--normalise is about answers in words"):
        _fast(run, tasks="sex", normalise="length", answer="head")


def test_a_trained_model_that_reads_a_planted_leak_is_exposed(tmp_path, capsys):
    cohort = small.make_cohort(tmp_path / "flat", subjects=80, effect=0.0)
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")
    table["arm"] = np.where(table["sex"] == "F", "blue", "green")  # the label under another name
    table.to_csv(cohort / "participants.tsv", sep="\t", index=False)
    describe(cohort, types="fc")
    options = [*small.TINY_MODEL, f"data.dataset_dir=[{cohort}]", "instruct.add_desc=[arm]"]
    tokenizer = train_stage("tokenizer", [*options, "train.epochs=1"], output=tmp_path / "tok")
    options += ["train.epochs=8", "train.batch_size=4", "train.lr=3e-3"]
    options += ["instruct.use_random_prompt=false"]
    run = train_stage("instruct", options, output=tmp_path / "run", init=tokenizer)
    with pytest.raises(SystemExit) as stopped:
        _fast(run, strict=True)
    assert stopped.value.code == 1
    [result] = read_results(run / "evaluation")
    model, text_only = (result.predictors[name] for name in ("model", "text_only"))
    assert model.metrics["auc"].value > 0.95
    assert text_only.metrics["auc"].value == pytest.approx(model.metrics["auc"].value, abs=0.05)
    assert result.verdict["leak"] is True
    assert "LEAK?" in capsys.readouterr().out
