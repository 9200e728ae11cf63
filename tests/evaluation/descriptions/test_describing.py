import json

import numpy as np
import pandas as pd
import pytest

from evaluation_helpers import make_run
from fmrilm.cohort.cohort import Cohort
from fmrilm.description.describe import describe
from fmrilm.errors import InputError
from fmrilm.evaluation.descriptions.claims import COLUMNS, claim_statistics
from fmrilm.evaluation.descriptions.descriptions import DescriptionResult
from fmrilm.evaluation.descriptions.references import average_text, read_measured, typical_text
from fmrilm.evaluation.descriptions.worded import ridge_texts
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.results import Predictor
from fmrilm.evaluation.runs import Run
from fmrilm.stats.intervals import Estimate
from small import make_cohort


class Describer:
    """Writes the true text of the scan it is shown, or always the same text."""

    def __init__(self, cohort, text=None):
        self.text = text
        texts = read_measured(cohort, ["fc"]).texts
        self.known = {self._key(cohort.read(i)[0]): texts[i] for i in range(len(cohort))}

    @staticmethod
    def _key(series):
        return np.asarray(series, dtype=np.float32).round(3).tobytes()

    def generate(self, fmri, roi_mask, prompts, max_new_tokens=8):
        return [self.text or self.known[self._key(one.numpy())] for one in fmri]


def _described(runs, output, **options):
    settings = {"tasks": "describe", "output": str(output), **options}
    evaluate([str(runs["align"])], **settings)
    [result] = json.loads((output / "descriptions.json").read_text())
    return result, pd.read_csv(output / "descriptions.csv", dtype={"session_id": str})


def _result(result):
    plain = {n: v for n, v in result.items() if n not in ("scan_adds", "verdict", "predictors")}
    predictors = {n: Predictor.from_dict(v) for n, v in result["predictors"].items()}
    return DescriptionResult(**plain, predictors=predictors, rows=pd.DataFrame())


def test_the_true_texts_are_wholly_supported(cohort_folder):
    cohort = Cohort(cohort_folder)
    measured = read_measured(cohort, ["fc"])
    rows = cohort.indices("test")
    found = claim_statistics(measured.texts.iloc[rows].tolist(), measured.rows(rows), {})
    assert set(found) == set(COLUMNS)
    assert (found["claims"] > 0).all()
    assert found["supported"] == pytest.approx(found["claims"])
    assert found["directions_right"] == pytest.approx(found["directions"])
    assert found["z_near"] == pytest.approx(found["z_n"])


def test_a_model_that_describes_its_scan_beats_every_text_that_does_not_look(
    runs, cohort_folder, tmp_path, monkeypatch, capsys
):
    describer = Describer(Cohort(cohort_folder))
    monkeypatch.setattr(Run, "load_model", lambda run, *_: describer)
    result, rows = _described(runs, tmp_path, strict=True)
    score = {n: {k: m["value"] for k, m in p["metrics"].items()}
             for n, p in result["predictors"].items()}  # fmt: skip
    assert score["model"]["direction"] == score["model"]["supported"] == 1.0
    assert score["model"]["rouge_l"] == score["model"]["bleu_4"] == pytest.approx(1.0)
    assert score["model"]["z_r"] == pytest.approx(1.0, abs=1e-3)
    for other in ("average", "typical", "shuffled"):
        assert score[other]["supported"] < 0.6
        assert score[other]["z_r"] < 0.5
        assert result["predictors"][other]["model_minus_this"]["direction"]["low"] > 0
        assert result["predictors"][other]["model_minus_this"]["z_r"]["low"] > 0
    assert result["scan_adds"] is True
    assert result["primary"] == "z_r"
    assert "truer of its own scan" in result["verdict"]
    assert (rows["generated"] == rows["truth"]).all()
    assert not (tmp_path / "metrics.json").exists()
    shown = capsys.readouterr().out
    for word in ("text of the average scan", "ROUGE-L", "SYNTHETIC"):
        assert word in shown


def test_a_model_that_always_writes_the_same_does_not_pass_strict(
    runs, cohort_folder, tmp_path, monkeypatch, capsys
):
    cohort = Cohort(cohort_folder)
    text = typical_text(read_measured(cohort, ["fc"]), cohort)
    monkeypatch.setattr(Run, "load_model", lambda run, *_: Describer(cohort, text))
    with pytest.raises(SystemExit):
        _described(runs, tmp_path, strict=True)
    [result] = json.loads((tmp_path / "descriptions.json").read_text())
    gap = result["predictors"]["shuffled"]["model_minus_this"]["direction"]
    assert gap["value"] == 0.0
    assert result["predictors"]["typical"]["model_minus_this"]["direction"]["value"] == 0.0
    assert "no truer of its own scan" in capsys.readouterr().out


def test_the_real_model_of_an_align_run_is_described_and_scored(runs, tmp_path):
    result, rows = _described(runs, tmp_path)
    assert result["n_scans"] == len(rows) == 8
    assert list(result["predictors"]) == ["model", "average", "typical", "ridge", "shuffled"]
    found = result["predictors"]["model"]["metrics"]
    assert {"bleu_1", "bleu_4", "rouge_l", "cider_d", "meteor_exact_stem"} <= set(found)


def test_the_best_constant_text_has_to_be_beaten_too(runs, cohort_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "load_model", lambda run, *_: Describer(Cohort(cohort_folder)))
    result, _ = _described(runs, tmp_path)
    found = _result(result)
    clear, level = Estimate(0.3, 0.2, 0.4), Estimate(0.1, -0.1, 0.3)
    for constant, shuffled, adds in [(clear, clear, True), (level, clear, False)]:
        gaps = {"shuffled": shuffled, found.best_constant: constant}
        for name, gap in gaps.items():
            found.predictors[name].difference["z_r"] = gap
        assert found.scan_adds is adds
        assert f"over the {found.predictors[found.best_constant].title}" in found.verdict


def test_ridge_from_the_scan_words_what_it_predicts_of_a_scan(cohort_folder):
    cohort = Cohort(cohort_folder)
    measured = read_measured(cohort, ["fc"])
    rows = cohort.indices("test")
    texts = ridge_texts(measured, cohort, rows, 20)
    found = claim_statistics(texts, measured.rows(rows), {})
    assert (found["claims"] > 0).all()
    assert ridge_texts(measured, cohort, rows[:2], 20)[0] == texts[0]


def test_ridge_reads_measures_of_connectivity_off_it(tmp_path):
    cohort = Cohort(make_cohort(tmp_path / "long", subjects=60, points=80))
    describe(cohort.folder, types="fc")
    measured = read_measured(cohort, ["fc"])
    rows = cohort.indices("test")
    texts = ridge_texts(measured, cohort, rows, 80)
    found = claim_statistics(texts, measured.rows(rows), {})
    n, x, y, xx, yy, xy = (found[f"z_{name}"].sum() for name in ("n", "x", "y", "xx", "yy", "xy"))
    assert (n * xy - x * y) / np.sqrt((n * xx - x**2) * (n * yy - y**2)) > 0.7


def test_the_average_text_calls_everything_typical(cohort_folder):
    cohort = Cohort(cohort_folder)
    text = average_text(read_measured(cohort, ["fc"]), cohort)
    assert "typical" in text
    assert "somewhat" not in text


@pytest.mark.parametrize("mark", ["", "_z"])
@pytest.mark.parametrize("value", ["high", "0,5", "x1", "9" * 400])
def test_a_measure_that_is_no_number_is_refused(tmp_path, value, mark):
    folder = make_cohort(tmp_path / "toy")
    describe(str(folder), types="fc")
    path = folder / "descriptors_rewritten/fc_descriptors.csv"
    table = pd.read_csv(path, dtype=str)
    stem = next(name for name in table if name.startswith("fc__") and not name.endswith("_z"))
    column = stem + mark
    table.loc[slice(None) if value.isdecimal() else 0, column] = value
    table.to_csv(path, index=False)
    with pytest.raises(
        InputError, match=f"fc_descriptors.csv: not all of column '{column}' are numbers"
    ):
        read_measured(Cohort(folder), ["fc"])


def test_a_cohort_without_descriptors_is_refused_before_the_model_is_loaded(
    tmp_path, planted, monkeypatch
):
    run = make_run(tmp_path / "run", planted, stage="align")
    monkeypatch.setattr(Run, "load_model", lambda run, *_: pytest.fail("loaded"))
    with pytest.raises(FileNotFoundError, match="fmrilm describe"):
        evaluate([str(run)], tasks="describe")


def test_a_tokenizer_run_describes_nothing(runs):
    with pytest.raises(InputError, match="answers no questions"):
        evaluate([str(runs["tokenizer"])], tasks="describe")


@pytest.mark.parametrize("column", ["n_timepoints", "fc_within"])
def test_a_table_without_a_column_is_refused(tmp_path, column):
    folder = make_cohort(tmp_path / "toy")
    describe(str(folder), types="fc")
    path = folder / "descriptors_rewritten/fc_descriptors.csv"
    pd.read_csv(path).drop(columns=column).to_csv(path, index=False)
    with pytest.raises(InputError, match=f"has no column '{column}'"):
        read_measured(Cohort(folder), ["fc"])
