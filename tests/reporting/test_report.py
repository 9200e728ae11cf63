import base64
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from evaluation_helpers import N_ROIS, N_TIMES, make_cohort, make_run
from fmrilm.cohort.cohort import Cohort
from fmrilm.config.schema import TokenizerConfig
from fmrilm.errors import InputError
from fmrilm.evaluation.descriptions.descriptions import SHOWN
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.readings import READINGS
from fmrilm.evaluation.results import Predictor, read_results
from fmrilm.files import SEAL, write_seal
from fmrilm.reporting.charts import connectivity_chart, roc_band, roc_points
from fmrilm.reporting.collect import collect
from fmrilm.reporting.report import report
from fmrilm.reporting.scans import group_connectivity, network_order, rebuild
from fmrilm.reporting.task_view import task_view
from fmrilm.reporting.views import duration
from fmrilm.stats.classification import weighted_auc
from fmrilm.stats.intervals import Estimate
from fmrilm.tokenizer.tokenizer import FMRITokenizer

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Balance(HTMLParser):
    """Fails on a tag that is closed but not open."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _tokenizer():
    return FMRITokenizer(
        TokenizerConfig(
            num_rois=N_ROIS,
            num_timestamp=N_TIMES,
            patch_size=N_TIMES,
            enc_cls="vit_tiny",
            n_embd=16,
            n_layer=1,
            n_head=2,
            codebook_size=32,
            code_dim=8,
        )
    ).eval()


def _log(folder, epochs=3, **losses):
    rows = []
    for epoch in range(1, epochs + 1):
        for split in ("train", "val"):
            found = {name: value / epoch for name, value in {"loss": 2.0, **losses}.items()}
            rows.append({"epoch": epoch, "step": epoch, "split": split, "seconds": 61.0, **found})
    (folder / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def _chain(folder, cohort):
    """Write a finished instruct run with its parent, not evaluated yet."""
    parent = make_run(folder / "tok", cohort, stage="tokenizer")
    _tokenizer().save_pretrained(parent / "model")
    _log(parent, rec_loss=1.0, perplexity=5.0)
    run = make_run(folder / "inst", cohort)
    _tokenizer().save_pretrained(run / "model" / "tokenizer")
    _log(run)
    lineage = json.loads((run / "lineage.json").read_text())
    (run / "lineage.json").write_text(json.dumps({**lineage, "parent": str(parent)}))
    return run


@pytest.fixture
def chain(tmp_path, planted, model):
    run = _chain(tmp_path, planted)
    (planted.folder / READINGS).unlink(missing_ok=True)  # counted over all tests of this cohort
    evaluate([str(run)])
    return run


def test_the_page_is_whole_and_needs_no_network(chain, tmp_path):
    page = report([str(chain)], output=str(tmp_path / "out" / "r.html")).read_text()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)
    assert "url(" not in page
    assert "<script" not in page
    for svg in re.findall(r"<svg.*?</svg>", page, re.S):
        ElementTree.fromstring(svg)
    words = ["Stage 1", "Stage 3", "Codebook use", "from the tokens", "Functional connectivity"]
    words += ["ROC.", "Answers.", "shuffled scan", "FC + logistic", "What the model writes"]
    words += ["Confidence.", "Within groups", "regressed out", "have been read once"]
    words += ["Lineage and configuration", "num_timestamp", "reads the scan"]
    for word in words:
        assert word in page, word
    assert "nan" not in re.sub(
        r"data:image/png;base64,[^\"']*|<pre>.*?</pre>", "", page, flags=re.S
    )


def test_numbers_and_descriptions_have_their_place_on_the_page(chain, tmp_path):
    evaluate([str(chain)], tasks="age", samples=0)
    scores = {name: Estimate(0.5, 0.4, 0.6) for name in SHOWN}
    model = Predictor("model", "fMRI-LM", scores).to_dict()
    about = {"cohort": "toy", "synthetic": True, "split": "test", "n_scans": 9, "n_subjects": 8}
    about |= {"primary": "z_r", "verdict": "the text is truer of its own scan"}
    found = {**about, "scan_adds": True, "texts": {}, "predictors": {"model": model}}
    (chain / "evaluation" / "descriptions.json").write_text(json.dumps([found]))
    page = report([str(chain)], output=str(tmp_path / "r.html")).read_text()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    for word in (
        "Values.",
        "r and interval",
        "MAE",
        "Are the descriptions true?",
        "ROUGE-L",
        "The text is truer of its own scan.",
    ):
        assert word in page, word
    assert "ROC." not in page


def test_synthetic_is_said_in_every_heading_of_a_synthetic_cohort(chain, tmp_path):
    page = report([str(chain)], output=str(tmp_path / "r.html")).read_text()
    headings = re.findall(r"<h2.*?</h2>", page, re.S)
    assert len(headings) == 4
    assert all("SYNTHETIC" in heading for heading in headings)
    assert "say nothing about people" in page


def test_generated_text_cannot_run_as_a_script(chain, tmp_path):
    path = chain / "evaluation" / "generations.json"
    texts = json.loads(path.read_text())
    texts[0]["generated"] = "<script>alert(1)</script>"
    path.write_text(json.dumps(texts))
    write_seal(path.parent, [file.name for file in path.parent.glob("*.*") if file.name != SEAL])
    page = report([str(chain)], output=str(tmp_path / "r.html")).read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_test_split_is_not_read(chain, tmp_path, monkeypatch):
    read = Cohort.read

    def guarded(cohort, index):
        assert cohort.table["split"].iloc[index] != "test"
        return read(cohort, index)

    monkeypatch.setattr(Cohort, "read", guarded)
    report([str(chain)], output=str(tmp_path / "r.html"))


def test_a_run_that_was_not_evaluated_is_shown_and_says_so(tmp_path, planted, model):
    run = _chain(tmp_path, planted)
    page = report([str(run)], output=str(tmp_path / "r.html")).read_text()
    assert "Not evaluated yet" in page
    assert "Stage 1" in page


def test_a_parent_that_is_gone_is_named(tmp_path, planted):
    run = _chain(tmp_path, planted)
    (tmp_path / "tok").rename(tmp_path / "elsewhere")
    chain = collect(run)
    assert len(chain.stages) == 1
    assert chain.missing_parent.endswith("tok")


def test_no_run_is_refused():
    with pytest.raises(InputError, match="no run given"):
        report([])


def test_a_task_without_one_class_has_no_roc_but_the_reason(tmp_path, model):
    cohort = make_cohort(tmp_path / "toy", n_subjects=40)
    table = pd.read_csv(cohort.folder / "participants.tsv", sep="\t")
    table.loc[table["participant_id"].isin(_subjects(cohort, "test")), "sex"] = "M"
    table.to_csv(cohort.folder / "participants.tsv", sep="\t", index=False)
    run = make_run(tmp_path / "run", Cohort(cohort.folder))
    evaluate([str(run)])
    [result] = read_results(run / "evaluation")
    view = task_view(result)
    assert view["roc"] == ""
    assert "Female" in view["score"].reason
    assert view["verdict"]["scan_adds"] is None


def _subjects(cohort, split):
    return cohort.table.loc[cohort.table["split"] == split, "subject_id"]


def test_the_area_under_the_drawn_roc_is_the_auc():
    rng = np.random.default_rng(0)
    positive, scores = rng.uniform(size=80) < 0.4, np.round(rng.normal(size=80), 1)
    alarms, hits = roc_points(positive, scores)
    expected = weighted_auc(positive, scores, np.ones((1, 80)))[0]
    assert np.trapezoid(hits, alarms) == pytest.approx(expected)
    grid, low, high = roc_band(positive, scores, rng.integers(0, 3, (50, 80)).astype(float))
    inside = np.interp(grid, alarms, hits)
    assert (low <= high).all()
    assert ((low <= inside + 1e-9) & (inside <= high + 1e-9)).mean() > 0.9


def test_regions_are_ordered_by_network_and_none_is_lost(planted):
    order, groups = network_order(planted)
    assert sorted(order) == list(range(N_ROIS))
    assert sum(size for _, size in groups) == N_ROIS


def test_group_connectivity_is_the_mean_fisher_z_of_the_training_scans(planted):
    found = group_connectivity(planted)
    order, _ = network_order(planted)
    z = [
        np.arctanh(np.corrcoef(planted.read(i)[0])[np.ix_(order, order)][0, 1])
        for i in planted.indices("train")
    ]
    assert found.matrix[0, 1] == pytest.approx(np.tanh(np.mean(z)), abs=1e-5)
    assert found.n_units == len(z)


def test_reconstruction_examples_run_from_best_to_worst(planted):
    found = rebuild(planted, _tokenizer())
    shown = [r for _, _, r, _, _ in found.examples]
    assert shown == sorted(shown, reverse=True)
    assert found.counts.sum() == found.n_scans * N_ROIS
    assert 1 <= found.perplexity <= (found.counts > 0).sum() + 1e-9


def test_the_matrix_picture_is_a_png_of_its_size():
    chart = connectivity_chart(np.eye(5) * np.nan, [("a", 2), ("b", 3)], 0.5)
    [first, _] = re.findall(r"base64,([^\"]+)", chart)
    assert base64.b64decode(first)[:4] == b"\x89PNG"


def test_durations_are_words():
    assert [duration(s) for s in (5, 125, 3725)] == ["5 s", "2 min 05 s", "1 h 02 min"]


@pytest.mark.parametrize(
    ("key", "value"), [("seconds", float("nan")), ("epoch", None), ("loss", "two"), ("split", 3)]
)
def test_a_log_whose_numbers_are_none_is_one_sentence(tmp_path, planted, key, value):
    run = _chain(tmp_path, planted)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    rows[0][key] = value
    (run / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=r"log\.jsonl.*restore it"):
        report([str(run)], output=str(tmp_path / "page.html"))
