import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from test_report import Balance

from evaluation_helpers import make_cohort, make_run
from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.results import BASELINE, read_results
from fmrilm.evaluation.scrutiny.study import Tokens
from fmrilm.reporting.benchmark import benchmark
from fmrilm.reporting.dotplot import Mark, Row, dot_plot
from fmrilm.reporting.glance import baseline_chip, glance, paragraph, place, verdict_tables
from fmrilm.reporting.learning import Curve, learning_chart
from fmrilm.stats.intervals import Estimate
from fmrilm.stats.kinds import KINDS


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A benchmark of a run that reads the scan, with two splits and the standard controls."""
    folder = tmp_path_factory.mktemp("benchmark")
    cohort = make_cohort(folder / "toy", n_subjects=60, sessions=1)
    return _benchmark(make_run(folder / "run", cohort), folder / "out")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The same of a run that is asked for classes, for a number and for classes in order."""
    folder = tmp_path_factory.mktemp("mixed")
    cohort = make_cohort(folder / "toy", n_subjects=80, sessions=1)
    path = cohort.folder / "participants.tsv"
    table = pd.read_csv(path, sep="\t")
    table["flanker_enc"] = pd.qcut(table["age"], 3, labels=[0, 1, 2])
    table.to_csv(path, sep="\t", index=False)
    tasks = "instruct.tasks=[sex,age,flanker_enc]"
    run = make_run(folder / "run", Cohort(cohort.folder), tasks)
    return _benchmark(run, folder / "out")


def _benchmark(run, output):
    from evaluation_helpers import ScanReader
    from fmrilm.evaluation.runs import Run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "load_model", lambda run, *_: ScanReader())
        patch.setattr(Tokens, "read", lambda self, cohort, rows, prompt: _tokens(cohort, rows))
        return benchmark(
            [str(run)],
            output=str(output),
            repeats=2,
            baselines="standard",
            controls="standard",
            jobs=1,
        )


def _tokens(cohort, rows):
    return np.stack([cohort.read(int(row))[0].ravel() for row in rows])


def _whole(path):
    """Return the text of a page whose tags are all closed and that needs no network."""
    text = path.read_text()
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", text)
    for svg in re.findall(r"<svg.*?</svg>", text, re.S):
        ElementTree.fromstring(svg)
    return text


def test_the_page_is_whole_needs_no_network_and_says_synthetic_and_the_verdict_first(page):
    text = _whole(page)
    assert "say nothing about people" in text
    order = [text.index(word) for word in ("Verdicts", "reads the scan", "Within groups")]
    assert order == sorted(order)
    for words in ("fresh splits by subject", "Learning curves", "Leaving a site out", "FC"):
        assert words in text, words
    assert ">nan" not in text


def test_the_numbers_behind_the_page_are_kept(page):
    content = json.loads((page.parent / "benchmark.json").read_text())
    assert set(content["seconds"]) == {"plain models", "evaluation", "splits, sites and sizes"}
    [study] = content["studies"]
    assert set(study["repeats"]) == {"frozen:run", "fc", "region_means", "covariates"}
    assert study["repeats"]["fc"]["estimate"]["low"] > 0.5
    assert set(study["sites"]["fc"]) == {"a", "b"}
    people = [point["people"] for point in study["curves"]["fc"]]
    assert people == sorted(people)
    assert people[-1] == study["n_train"]
    assert (page.parent / "run" / "metrics.json").is_file()


def test_no_run_is_refused():
    with pytest.raises(InputError, match="no run given"):
        benchmark([])


@pytest.fixture(scope="module")
def result(page):
    [found] = read_results(page.parent / "run")
    return found


def test_the_verdict_is_said_in_plain_words(result):
    words = " ".join(paragraph(result))
    assert "people it was not trained on" in words
    assert "It reads the scan: with another person's scan it has" in words
    row = glance(result)
    assert row["chips"][0] == ("good", "reads the scan")
    assert [mark["role"] for mark in row["marks"]] == ["control", "baseline", "model"]


@pytest.mark.parametrize(
    ("gain", "chip"),
    [
        (Estimate(0.1, 0.02, 0.2), "beats every plain model"),
        (Estimate(-0.1, -0.2, -0.02), "below a plain model"),
        (Estimate(0.0, -0.1, 0.1), "level with a plain model"),
    ],
)
def test_a_plain_model_is_beaten_only_where_the_interval_leaves_out_zero(result, gain, chip):
    best = next(iter(result.of_role(BASELINE).values()))
    assert baseline_chip(replace(best, difference={"auc": gain}))[1] == chip


def test_a_model_that_does_not_read_the_scan_is_called_so(tmp_path, planted, model):
    model.reads = "text"
    run = make_run(tmp_path / "run", planted, "instruct.add_desc=[site]")
    [found] = evaluate([str(run)], baselines="none", scrutiny=False)
    assert glance(found)["chips"][0] == ("bad", "no use of the scan shown")
    assert "cannot be shown" in " ".join(paragraph(found))


def test_a_number_stands_on_the_page_as_everything_else_in_a_table_of_its_own(mixed):
    text = _whole(mixed)
    assert ">nan" not in text
    tables = re.findall(r'<table class="verdicts">.*?</table>', text, re.S)
    asked = [re.findall(r'href="#toy-(\w+)"', table) for table in tables]
    assert asked == [["sex", "flanker_enc"], ["age"]]
    titles = re.findall(r'<div class="track">(\w+) on held-out', text)
    assert titles == ["AUC", "r"]
    section = text[text.index('<h2 id="toy-age"') : text.index('<h2 id="toy-flanker_enc"')]
    for words in ("the model has an r of", "Predicted over measured", "Ridge regression", "MAE"):
        assert words in section, words
    for words in ("AUC", "ROC", "ogistic"):
        assert words not in section, words


def test_the_studies_of_a_number_find_what_was_planted(mixed):
    content = json.loads((mixed.parent / "benchmark.json").read_text())
    study = next(one for one in content["studies"] if one["task"] == "age")
    assert study["kind"] == "values"
    assert study["repeats"]["fc"]["estimate"]["value"] > 0.5
    assert abs(study["repeats"]["region_means"]["estimate"]["value"]) < 0.5
    assert set(study["sites"]["fc"]) == {"a", "b"}
    assert study["curves"]["fc"][-1]["people"] == study["n_train"]


def test_the_verdict_on_a_number_is_by_its_correlation(mixed):
    result = next(one for one in read_results(mixed.parent / "run") if one.task == "age")
    row = glance(result)
    assert row["chips"][0] == ("good", "reads the scan")
    assert row["score"] == result.predictors["model"].metrics["r"]
    shown = next(mark for mark in row["marks"] if mark["role"] == "model")
    assert shown["dot"] == place(row["score"].value, (-0.4, 1.0))
    [table] = verdict_tables([{"kind": "values"}])
    ticks = {text: left for left, text in table["ticks"]}
    assert (ticks["-0.4"], ticks["0.0"], ticks["1.0"]) == (0, table["chance"], 100)


def test_a_number_that_is_not_read_from_the_scan_has_an_axis_that_shows_it():
    values = KINDS["values"]
    svg = dot_plot([Row("a", [Mark("model", Estimate(-0.25, -3.0, 0.5))])], "test", values)
    ElementTree.fromstring(svg)
    [dot] = re.findall(r'<circle class="dot model" cx="([\d.]+)"', svg)
    [(start, end)] = re.findall(r'class="line model" x1="([\d.]+)" x2="([\d.]+)"', svg)
    grid = re.findall(r'class="tick" x="([\d.]+)"[^>]*>(-?[\d.]+)<', svg)
    place = {float(text): float(x) for x, text in grid}
    assert float(dot) == pytest.approx((place[-0.5] + place[0.0]) / 2, abs=0.2)
    assert float(start) == pytest.approx(place[-1.0], abs=0.2)  # no r is below -1
    assert float(end) == pytest.approx(place[0.5], abs=0.2)
    curve = Curve([10, 20], [Estimate(0.1), Estimate(-0.3)], "other", "a")
    assert ">r on the same held-out people<" in learning_chart([curve], (), values)


def test_a_position_on_the_axis_never_leaves_it():
    assert [place(value) for value in (0.0, 0.3, 0.65, 1.0)] == [0, 0, 50, 100]


def test_an_interval_is_drawn_as_wide_as_it_is():
    rows = [Row("a", [Mark("model", Estimate(0.7, 0.6, 0.8))]), Row("b", [])]
    svg = dot_plot(rows, "test")
    ElementTree.fromstring(svg)
    grid = {
        float(t): float(x) for x, t in re.findall(r'class="tick" x="([\d.]+)"[^>]*>([\d.]+)<', svg)
    }
    [(a, b)] = re.findall(r'class="line model" x1="([\d.]+)" x2="([\d.]+)"', svg)
    assert float(a) == pytest.approx(grid[0.6], abs=0.2)
    assert float(b) == pytest.approx(grid[0.8], abs=0.2)


def test_the_names_of_curves_that_end_together_do_not_overlap():
    curves = [Curve([10, 20], [Estimate(0.8), Estimate(0.9)], "other", n) for n in "abcd"]
    svg = learning_chart(curves, [(20, 0.9, "the run")])
    places = sorted(float(y) for y in re.findall(r'class="tick end \w+" x="\d+" y="([\d.]+)"', svg))
    assert len(places) == 5
    assert min(np.diff(places)) >= 13
