import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from evaluation_helpers import make_cohort
from fmrilm.errors import InputError
from fmrilm.evaluation.baselines import baselines
from fmrilm.evaluation.baselines.baselines import (
    BASELINES,
    baseline_answers,
    choose,
    fit_one,
    left_out,
)
from fmrilm.evaluation.baselines.covariates import design, known_covariates
from fmrilm.evaluation.baselines.features import connectivity, extract
from fmrilm.evaluation.baselines.linear import PENALTIES, LinearBaseline, LinearValues, folds
from fmrilm.evaluation.baselines.span import Span
from fmrilm.evaluation.questions import select
from fmrilm.stats.classification import weighted_auc
from fmrilm.stats.intervals import Answers
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
    assert not {"fc", "fc_ridge", "tangent", "fc_svm", "brainnet"} & set(short)
    assert {"fc", "fc_ridge", "tangent"} <= set(choose(question, 48))
    assert "8 time points are too few" in left_out(question, 8)["tangent"]
    assert left_out(question, 48) == {}
    with pytest.raises(InputError, match="unknown baseline"):
        choose(question, 48, "fcc")


@pytest.mark.parametrize("name", list(BASELINES))
def test_every_baseline_finds_an_effect_in_what_it_reads(tmp_path, planted, name):
    question = select(planted, TASKS["sex"], "test")
    feature = BASELINES[name].feature
    parts = [select(planted, TASKS["sex"], split) for split in ("train", "val")] + [question]
    shapes = {
        "fc": (15,),
        "tangent": (21,),
        "values": (48,),
        "series": (6, 48),
        "region_means": (6,),
    }
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


def _standardised(features, asked):
    scaled, new = ((x - features.mean(0)) / features.std(0) for x in (features, asked))
    size = np.sqrt((scaled**2).sum(1).mean())
    return scaled / size, new / size


def test_the_logistic_model_in_the_span_of_the_scans_equals_the_plain_one():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(300, 2000)), np.resize([0, 1], 300)
    val, asked = rng.normal(size=(20, 2000)), rng.normal(size=(7, 2000))
    scaled, new = _standardised(features, asked)
    plain = LogisticRegression(C=1.0, max_iter=5000, tol=1e-8).fit(scaled, labels)
    span = Span().fit(features, val)
    assert span.basis_ is not None
    inputs = span.transform(features), span.transform(val)
    found = LinearBaseline(penalties=(1.0,)).fit(inputs, (labels, labels[:20]))
    told = found.predict_proba(span.transform(asked), 2)
    assert told == pytest.approx(plain.predict_proba(new), abs=1e-3)


def test_ridge_in_the_span_equals_the_plain_one_for_every_penalty_and_target():
    rng = np.random.default_rng(0)
    features, asked = rng.normal(size=(300, 2000)), rng.normal(size=(7, 2000))
    targets = rng.normal(size=(300, 3)) + features[:, :3]
    scaled, new = _standardised(features, asked)
    span = Span().fit(features, features[:9])
    inputs = span.transform(features), span.transform(features[:9])
    model = LinearValues().fit(inputs, (targets, targets[:9]))
    for index, penalty in enumerate(model.penalty_):
        plain = Ridge(alpha=penalty).fit(scaled, targets[:, index])
        told = model.predict(span.transform(asked))[:, index]
        assert told == pytest.approx(plain.predict(new), abs=1e-4)
    single = LinearValues().fit(inputs, (targets[:, 0], targets[:9, 0]))
    told = model.predict(span.transform(asked))[:, 0]
    assert single.predict(span.transform(asked)) == pytest.approx(told)


def test_with_more_scans_than_components_the_leading_ones_are_kept():
    rng = np.random.default_rng(0)
    strong = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 900)) * 3
    features = strong + rng.normal(size=(200, 900))
    span = Span(max_components=40).fit(features[:160], features[160:180])
    basis = span.basis_
    assert basis.shape == (900, 40)
    assert basis.T @ basis == pytest.approx(np.eye(40), abs=1e-3)
    scaled = (features - features[:160].mean(0)) / features[:160].std(0)
    exact = np.linalg.svd(scaled[:180], full_matrices=False)[2][:12]
    assert np.linalg.svd(exact @ basis)[1].min() > 0.999
    coordinates = span.transform(features[180:]) * span.norm_
    assert coordinates == pytest.approx(scaled[180:] @ basis, abs=1e-2)


def test_no_person_is_on_both_sides_when_a_penalty_is_chosen():
    people = np.repeat(np.arange(12), 3)
    labels = np.resize([0, 1], 12)[people]
    for classes in (True, False):
        parts = folds(labels, people, classes)
        assert len(parts) == 5
        assert sorted(np.concatenate([held for _, held in parts])) == list(range(36))
        assert all(not set(people[fit]) & set(people[held]) for fit, held in parts)
    assert folds(np.array([0, 0, 1]), np.array([1, 1, 2]), classes=True) == []


def test_a_val_split_of_three_people_does_not_choose_the_penalty_alone():
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(40), 3)
    labels = np.tile([0, 1, 1], 40)
    features = rng.normal(size=(120, 300))
    features[:, :30] += 0.8 * labels[:, None]
    train, val = people < 30, (people >= 30) & (people < 33)
    wrong = 1 - labels[val]  # what val alone says is misleading
    span = Span().fit(features[train], features[val])
    inputs = span.transform(features[train]), span.transform(features[val])
    subjects = people[train], people[val]
    right = LinearBaseline().fit(inputs, (labels[train], labels[val]), subjects)
    model = LinearBaseline().fit(inputs, (labels[train], wrong), subjects)
    # Val alone would choose the strongest penalty, at which nothing is said for sure.
    assert right.penalty_ >= model.penalty_ > PENALTIES["logistic"][0]
    told = Answers(model.predict_proba(span.transform(features[people >= 33]), 2))
    assert _auc(labels[people >= 33], told) > 0.75


def test_nothing_is_learned_from_the_scans_that_are_asked():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 10)), np.resize([0, 1], 40)
    asked = rng.normal(size=(6, 10))
    parts, known = (features, features[:9]), (labels, labels[:9])
    together = fit_one("logistic", [*parts, asked], known, 2)
    assert fit_one("logistic", [*parts, asked[:1]], known, 2)[0] == pytest.approx(together[0])


def test_a_missing_or_constant_feature_counts_as_its_training_mean():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 4)), np.resize([0, 1], 40)
    features[:, 3] = 5.0
    asked = features[:2].copy()
    asked[0, 0], asked[1, 0] = np.nan, features[:, 0].mean()
    asked[1, 1:], asked[0, 3] = asked[0, 1:], 99.0
    first, second = fit_one("logistic", [features, features, asked], (labels, labels), 2)
    assert first == pytest.approx(second, abs=1e-6)


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
