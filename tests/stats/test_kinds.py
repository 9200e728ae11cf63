import numpy as np
import pandas as pd
import pytest

from evaluation_helpers import make_cohort, make_run
from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.results import read_results
from fmrilm.reporting.task_view import task_view
from fmrilm.stats.kinds import KINDS, kind_of
from fmrilm.tasks import TASKS
from fmrilm.training.build import train_stage


def _age(run, **options):
    settings = {"tasks": "age", "samples": 0, **options}
    return evaluate([str(run)], **settings)


def test_every_task_has_a_kind_but_descriptions():
    for name, task in TASKS.items():
        if task.kind == "description":
            with pytest.raises(InputError, match="no classes and no numbers"):
                kind_of(task)
        else:
            assert bool(task.values) == kind_of(task).is_number, name


def test_a_number_is_scored_beside_baselines_and_controls(run, capsys):
    [result] = _age(run)
    model = result.predictors["model"].metrics
    assert model["r"].value > 0.6
    assert model["r"].low > 0.3
    assert model["mae"].value > 0
    names = {"majority", "covariates", "fc", "tangent", "region_means"}
    names |= {"text_only", "shuffled", "zero"}
    assert set(result.predictors) == {"model", *names}
    for name in ("majority", "text_only", "zero"):
        assert result.predictors[name].metrics["r"].value == 0.0
    assert result.predictors["fc"].metrics["r"].value > 0.5
    assert abs(result.predictors["shuffled"].metrics["r"].value) < 0.3
    assert result.verdict["scan_adds"] is True
    assert result.predictors["text_only"].difference["r"].low > 0.3
    assert result.predictors["text_only"].p_value < 0.05
    shown = capsys.readouterr().out
    for word in ("MAE", "training mean", "FC + ridge", "reads the scan"):
        assert word in shown


def test_the_files_hold_the_value_of_every_scan_and_read_back_the_same(run):
    [result] = _age(run)
    table = pd.read_csv(run / "evaluation" / "predictions.csv")
    labels = table["label"].astype(float)
    error = (table["value"] - labels).abs().mean()
    assert error == pytest.approx(result.predictors["model"].metrics["mae"].value, abs=1e-4)
    calibration = result.scrutiny["calibration"]  # 12 scans, but of six people: nine are needed
    assert (calibration["n_val"], calibration["n_val_people"]) == (12, 6)
    assert table[["value_low", "value_high"]].isna().all(axis=None)
    assert "9 needed" in calibration["notes"][-1]
    [again] = read_results(run / "evaluation")
    assert again.to_dict() == result.to_dict()
    assert "| r | MAE | R2 |" in (run / "evaluation" / "summary.md").read_text()
    view = task_view(again)
    assert "<svg" in view["scatter"]
    assert view["score_name"] == "r"


def test_numbers_and_classes_stand_in_tables_of_their_own(run, capsys):
    results = _age(run, tasks="sex,age", baselines="none")
    assert [result.kind for result in results] == ["classes", "values"]
    shown = capsys.readouterr().out
    assert "balanced acc." in shown
    assert "MAE" in shown
    table = pd.read_csv(run / "evaluation" / "predictions.csv")
    assert table.loc[table["task"] == "age", "p_Male"].isna().all()


def test_every_baseline_can_be_fitted_to_a_number(run):
    [result] = _age(run, baselines="all")
    found = result.of_role("baseline")
    assert set(found) == {
        "majority", "covariates", "fc", "tangent", "region_means", "pca", "mean_mlp", "brainnet"
    }  # fmt: skip
    assert found["fc"].metrics["r"].value > found["region_means"].metrics["r"].value


def test_a_text_that_names_no_number_is_unparsed_and_leaves_the_score_undefined(run, model):
    model.text = "I cannot tell."
    [result] = _age(run, use_allowed_tokens=False)
    assert result.free_text == {"asked": 24, "parsed": 0, "unparsed": 24, "right": 0}
    assert np.isnan(result.predictors["model"].metrics["mae"].value)
    assert set(result.predictions["parsed"]) == {"unparsed"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("52", 52),
        ("About 52.5 years.", 52.5),
        ("52 or 53", np.nan),
        ("520", np.nan),
        ("old", np.nan),
    ],
)
def test_a_number_is_read_where_a_text_names_one_in_range(text, value):
    assert KINDS["values"].parse(TASKS["age"], text) == pytest.approx(value, nan_ok=True)


def test_a_label_out_of_range_is_refused_and_a_missing_one_left_out(tmp_path, model):
    cohort = make_cohort(tmp_path / "toy", n_subjects=40)
    path = cohort.folder / "participants.tsv"
    table = pd.read_csv(path, sep="\t")
    table["age"] = table["age"].astype(float)
    test = Cohort(cohort.folder).table.query("split == 'test'")["subject_id"].iloc[0]
    table.loc[table["participant_id"] == test, "age"] = np.nan
    table.to_csv(path, sep="\t", index=False)
    run = make_run(tmp_path / "run", Cohort(cohort.folder))
    assert _age(run, scrutiny=False)[0].n_missing == 2  # both scans of the person
    table["age"] = 1000
    table.to_csv(path, sep="\t", index=False)
    with pytest.raises(InputError, match="outside 5 to 100"):
        _age(run)


def test_an_ordinal_task_counts_how_far_off_an_answer_is(tmp_path, model):
    cohort = make_cohort(tmp_path / "toy", n_subjects=60)
    path = cohort.folder / "participants.tsv"
    table = pd.read_csv(path, sep="\t")
    table["flanker_enc"] = np.resize([0, 1, 2], len(table))
    table.to_csv(path, sep="\t", index=False)
    run = make_run(tmp_path / "run", Cohort(cohort.folder))
    [result] = _age(run, tasks="flanker_enc", scrutiny=False)
    assert {"spearman", "quadratic_kappa", "auc"} <= set(result.predictors["model"].metrics)
    assert result.predictors["fc"].test.startswith("permutation")


def test_the_head_answers_when_asked_to(tmp_path, planted, model):
    options = ["model.lm.use_cls_head=true", "model.lm.num_classes=1"]
    run = make_run(tmp_path / "run", planted, *options)
    model.outputs = 1
    [words], [head] = _age(run), _age(run, answer="head")
    assert head.answered_by == "head"
    assert head.predictors["model"].metrics["r"].value == pytest.approx(
        words.predictors["model"].metrics["r"].value, abs=1e-6
    )
    assert (head.predictions["value"] - words.predictions["value"]).abs().min() > 1
    assert head.predictors["text_only"].metrics["r"].value == 0.0
    with pytest.raises(InputError, match="1 outputs, task 'sex'"):
        _age(run, tasks="sex", answer="head")


def test_a_head_of_classes_gives_probabilities_and_no_numbers(tmp_path, planted, model):
    options = ["model.lm.use_cls_head=true", "model.lm.num_classes=4"]
    run = make_run(tmp_path / "run", planted, *options)
    [result] = _age(run, tasks="sex", answer="head")
    assert result.predictors["model"].metrics["auc"].value > 0.95
    with pytest.raises(InputError, match="a number needs one"):
        _age(run, answer="head")


def test_a_run_without_a_head_is_not_asked_by_it(run):
    with pytest.raises(InputError, match="without use_cls_head"):
        _age(run, answer="head")
    with pytest.raises(InputError, match="use words or head"):
        _age(run, answer="tail")


def test_a_real_model_answers_numbers_by_words_and_by_its_head(tmp_path, runs, tiny_options):
    options = ["model.lm.use_cls_head=true", "model.lm.num_classes=1", "instruct.tasks=[age]"]
    run = train_stage(
        "instruct", [*tiny_options, *options], output=tmp_path / "age", init=runs["align"]
    )
    found = {}
    for answer in ("words", "head"):
        [result] = evaluate([str(run)], answer=answer, samples=0)
        assert result.task == "age"
        values = result.predictions["value"]
        assert values.between(5, 100).all() or answer == "head"
        found[answer] = values.to_numpy()
        assert np.ptp(result.compared.query("predictor == 'text_only'")["value"]) == 0
    assert np.abs(found["words"] - found["head"]).max() > 0.01
