import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from evaluation_helpers import make_cohort
from fmrilm.errors import InputError
from fmrilm.evaluation import baselines
from fmrilm.evaluation.baselines import BASELINES, baseline_answers, choose, fit_one
from fmrilm.evaluation.covariates import design, known_covariates
from fmrilm.evaluation.features import connectivity, extract
from fmrilm.evaluation.intervals import Answers
from fmrilm.evaluation.linear import LinearBaseline
from fmrilm.evaluation.metrics import weighted_auc
from fmrilm.evaluation.questions import select
from fmrilm.tasks import TASKS


def _auc(labels, answers):
    scores = answers.repetitions()[0][0][:, 1]
    return weighted_auc(labels == 1, scores, np.ones((1, len(labels))))[0]


def test_connectivity_is_the_fisher_z_of_the_correlations():
    rng = np.random.default_rng(0)
    series = rng.normal(size=(5, 100))
    found = connectivity(series, np.array([True] * 4 + [False]))
    expected = np.arctanh(np.corrcoef(series)[np.triu_indices(5, 1)])
    absent = (np.triu_indices(5, 1)[1] == 4) | (np.triu_indices(5, 1)[0] == 4)
    assert np.isnan(found[absent]).all()
    assert found[~absent] == pytest.approx(expected[~absent], abs=1e-5)


def test_short_scans_are_read_by_value_and_long_ones_by_connectivity(planted):
    question = select(planted, TASKS["sex"], "test")
    short, long = choose(question, 8, "all"), choose(question, 48, "all")
    assert "fc" in long
    assert "values" not in long
    assert "values" in short
    assert not {"fc", "fc_svm", "brainnet"} & set(short)
    with pytest.raises(InputError, match="unknown baseline"):
        choose(question, 48, "fcc")


@pytest.mark.parametrize("name", list(BASELINES))
def test_every_baseline_finds_an_effect_in_what_it_reads(tmp_path, planted, name):
    question = select(planted, TASKS["sex"], "test")
    feature = BASELINES[name].feature
    parts = [select(planted, TASKS["sex"], split) for split in ("train", "val")] + [question]
    shapes = {"fc": (15,), "values": (48,), "series": (6, 48), "region_means": (6,)}
    rng = np.random.default_rng(0)
    features = []
    for part in parts:
        noise = rng.normal(size=(len(part.rows), *shapes.get(feature, (4,)))).astype(np.float32)
        noise[:, :3] += 2.5 * part.labels.reshape(-1, *[1] * (noise.ndim - 1))
        features.append(noise)
    found = fit_one(BASELINES[name].classes, features, (parts[0].labels, parts[1].labels), 2)
    assert found.sum(axis=1) == pytest.approx(1)
    assert _auc(question.labels, Answers(found)) > 0.8


def test_covariates_never_include_the_label(planted):
    question = select(planted, TASKS["sex"], "test")
    assert known_covariates(question) == ["age", "site"]
    table = design(question, ["age", "site"], planted.indices("train"))
    assert table.shape == (len(question.rows), 3)
    assert (table[:, 1:].sum(axis=1) == 1).all()


def test_the_logistic_model_in_the_span_of_the_scans_equals_the_plain_one():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(30, 200)), np.resize([0, 1], 30)
    asked = rng.normal(size=(7, 200))
    found = LinearBaseline(penalties=(1.0,)).fit(features, labels, features, labels)
    scaled = (features - features.mean(0)) / features.std(0)
    size = np.sqrt((scaled**2).sum(1).mean())
    plain = LogisticRegression(C=1.0, max_iter=5000, tol=1e-8).fit(scaled / size, labels)
    expected = plain.predict_proba((asked - features.mean(0)) / features.std(0) / size)
    assert found.basis_ is not None
    assert found.predict_proba(asked, 2) == pytest.approx(expected, abs=1e-3)


def test_nothing_is_learned_from_the_scans_that_are_asked():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 10)), np.resize([0, 1], 40)
    model = LinearBaseline().fit(features, labels, features[:9], labels[:9])
    asked = rng.normal(size=(6, 10))
    together = model.predict_proba(asked, 2)
    assert model.predict_proba(asked[:1], 2)[0] == pytest.approx(together[0])


def test_a_missing_or_constant_feature_counts_as_its_training_mean():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 4)), np.resize([0, 1], 40)
    features[:, 3] = 5.0
    model = LinearBaseline().fit(features, labels, features, labels)
    asked = features[:2].copy()
    asked[0, 0], asked[1, 0] = np.nan, features[:, 0].mean()
    asked[1, 1:], asked[0, 3] = asked[0, 1:], 99.0
    first, second = model.predict_proba(asked, 2)
    assert first == pytest.approx(second)


def test_the_connectivity_baseline_finds_the_planted_effect_and_only_there(tmp_path, planted):
    question = select(planted, TASKS["sex"], "test")
    found = baseline_answers(question, 48)
    assert _auc(question.labels, found["fc"]) > 0.95
    assert _auc(question.labels, found["majority"]) == 0.5
    flat = make_cohort(tmp_path / "flat", effect=0.0, n_subjects=150)
    question = select(flat, TASKS["sex"], "test")
    assert 0.25 < _auc(question.labels, baseline_answers(question, 48)["fc"]) < 0.75


def test_answers_are_kept_and_made_anew_when_the_labels_change(tmp_path, monkeypatch):
    cohort = make_cohort(tmp_path / "toy", n_subjects=40)
    question = select(cohort, TASKS["sex"], "test")
    first = baseline_answers(question, 48)
    calls = []
    monkeypatch.setattr(
        baselines, "extract", lambda *args: calls.append(1) or extract(*args), raising=True
    )
    again = baseline_answers(question, 48)
    assert not calls
    assert (again["fc"].scores == first["fc"].scores).all()
    cohort.table["sex"] = cohort.table["sex"].map({"M": "F", "F": "M"})
    baseline_answers(select(cohort, TASKS["sex"], "test"), 48)
    assert calls


def test_a_training_split_of_one_class_is_refused(tmp_path):
    cohort = make_cohort(tmp_path / "toy", n_subjects=40)
    cohort.table.loc[cohort.table["split"] == "train", "sex"] = "M"
    with pytest.raises(InputError, match="same 'sex'"):
        baseline_answers(select(cohort, TASKS["sex"], "test"), 48)
