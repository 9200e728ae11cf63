"""Scores within people take memory that grows with the scans, not with scans times people."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd

from fmrilm.evaluation.pooled.people import per_person
from fmrilm.stats.classification import UNPARSED, auc
from fmrilm.stats.intervals import Answers
from fmrilm.tasks import TASKS


def _member(subjects, labels, metric):
    words = TASKS["sex"].candidates
    table = pd.DataFrame({"subject_id": subjects, "label": [words[label] for label in labels]})
    style = SimpleNamespace(label=lambda task, word: words.index(word), primary_metric=metric)
    result = SimpleNamespace(predictions=table, style=style)
    return SimpleNamespace(result=result, seed=0, fold=SimpleNamespace(fold=1))


def _answers(count, seed=0):
    positive = np.random.default_rng(seed).random(count)
    said = (positive > 0.5).astype(int)
    said[::7] = UNPARSED
    return Answers(np.stack([1 - positive, positive], axis=1), said)


def test_each_person_has_the_score_of_their_own_scans():
    subjects = np.array([f"p{i}" for i in np.random.default_rng(1).integers(0, 9, 60)])
    labels, answers = np.resize([0, 1, 1], 60), _answers(60)
    table = per_person(_member(subjects, labels, auc), answers, TASKS["sex"])
    assert list(table["subject_id"]) == sorted(set(subjects))
    [(scores, said)] = answers.repetitions()
    for row in table.itertuples():
        own = subjects == row.subject_id
        assert row.n_scans == own.sum()
        by_hand = auc(labels[own], scores[own], said[own], np.ones((1, own.sum())))[0]
        np.testing.assert_equal(row.score, float(by_hand))


def test_forty_thousand_scans_of_ten_thousand_people_take_little_memory():
    subjects = np.array([f"p{i % 10_000:05d}" for i in range(40_000)])
    labels = np.resize([0, 1], 40_000)
    member = _member(subjects, labels, lambda labels, scores, said, w: np.array([w.sum()]))
    answers = _answers(40_000)
    tracemalloc.start()
    table = per_person(member, answers, TASKS["sex"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (table["score"] == 4).all()
    assert peak < 100 * 2**20
