import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from test_report import Balance

from evaluation_helpers import make_cohort, make_run
from fmrilm.errors import InputError
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.intervals import Estimate
from fmrilm.evaluation.results import BASELINE, read_results
from fmrilm.evaluation.study import Tokens
from fmrilm.reporting.benchmark import benchmark
from fmrilm.reporting.dotplot import Mark, Row, dot_plot
from fmrilm.reporting.glance import baseline_chip, glance, paragraph, place
from fmrilm.reporting.learning import Curve, learning_chart


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A benchmark of a run that reads the scan, with two splits and the standard controls."""
    from evaluation_helpers import ScanReader
    from fmrilm.evaluation.runs import Run

    folder = tmp_path_factory.mktemp("benchmark")
    cohort = make_cohort(folder / "toy", n_subjects=60, sessions=1)
    run = make_run(folder / "run", cohort)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "load_model", lambda run: ScanReader())
        patch.setattr(Tokens, "read", lambda self, cohort, rows, prompt: _tokens(cohort, rows))
        path = benchmark(
            [str(run)],
            output=str(folder / "out"),
            repeats=2,
            baselines="standard",
            controls="standard",
            jobs=1,
        )
    return path


def _tokens(cohort, rows):
    return np.stack([cohort.read(int(row))[0].ravel() for row in rows])


def test_the_page_is_whole_needs_no_network_and_says_synthetic_and_the_verdict_first(page):
    text = page.read_text()
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", text)
    for svg in re.findall(r"<svg.*?</svg>", text, re.S):
        ElementTree.fromstring(svg)
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
    [found] = evaluate([str(run)], n_resamples=100, baselines="none", scrutiny=False)
    assert glance(found)["chips"][0] == ("bad", "no use of the scan shown")
    assert "cannot be shown" in " ".join(paragraph(found))


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
