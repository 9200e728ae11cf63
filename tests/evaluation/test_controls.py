import numpy as np
import pytest

from fmrilm.evaluation.controls import randomise_phases, shuffle_scans
from fmrilm.evaluation.results import Predictor
from fmrilm.evaluation.verdict import verdict
from fmrilm.stats.intervals import Estimate
from fmrilm.stats.kinds import KINDS


@pytest.mark.parametrize("seed", range(5))
def test_a_shuffled_scan_is_another_persons_of_the_same_site(seed):
    rng = np.random.default_rng(seed)
    subjects = np.repeat([f"s{i}" for i in range(30)], rng.integers(1, 5, 30))
    site_of = {f"s{i}": "abc"[i % 3] for i in range(30)}
    sites = np.array([site_of[name] for name in subjects])
    source = shuffle_scans(subjects, sites, seed)
    assert sorted(source) == list(range(len(subjects)))
    assert (subjects[source] != subjects).all()
    assert (sites[source] == sites).all()


def test_people_who_are_alone_at_their_site_are_exchanged_among_each_other():
    subjects = np.array(["a", "a", "b", "b", "c", "d", "e"])
    sites = np.array(["1", "1", "2", "2", "3", "3", "3"])
    source = shuffle_scans(subjects, sites)
    assert (subjects[source] != subjects).all()
    assert set(source[:4]) == {0, 1, 2, 3}


def test_one_person_alone_at_a_site_is_still_exchanged():
    subjects = np.array(["a", "a", "b", "c", "d", "e"])
    sites = np.array(["1", "1", "2", "2", "2", "2"])
    assert (subjects[shuffle_scans(subjects, sites)] != subjects).all()


def test_the_same_seed_shuffles_the_same_way():
    subjects = np.arange(20).astype(str)
    sites = np.full(20, "x")
    assert (shuffle_scans(subjects, sites, 1) == shuffle_scans(subjects, sites, 1)).all()
    assert (shuffle_scans(subjects, sites, 1) != shuffle_scans(subjects, sites, 2)).any()


def _predictors(chance=0.5, **gains):
    alone = Estimate(chance, chance, chance)
    return {
        name: Predictor("control", name, {"auc": alone}, {"auc": gain})
        for name, gain in gains.items()
    }


def test_the_verdict_follows_the_weakest_difference():
    clear, none = Estimate(0.3, 0.2, 0.4), Estimate(0.02, -0.05, 0.1)
    kind = KINDS["classes"]
    found = verdict(_predictors(text_only=clear, shuffled=clear, zero=none), kind)
    assert found["scan_adds"] is True
    found = verdict(_predictors(text_only=clear, shuffled=none), kind)
    assert found["scan_adds"] is False
    assert found["leak"] is False
    assert list(found["reads_scan"]["over"]) == ["text_only", "shuffled"]
    unknown = Estimate(float("nan"), reason="no scan of class Female in the split")
    found = verdict(_predictors(text_only=unknown, shuffled=clear), kind)
    assert found["scan_adds"] is None
    assert "Female" in str(found["text"])


def test_a_text_that_scores_as_well_is_a_leak_and_one_at_chance_is_none():
    clear, none = Estimate(0.3, 0.2, 0.4), Estimate(0.02, -0.05, 0.1)
    kind = KINDS["classes"]
    assert verdict(_predictors(0.9, text_only=none, shuffled=clear), kind)["leak"] is True
    assert verdict(_predictors(0.5, text_only=none, shuffled=none), kind)["leak"] is False
    assert verdict(_predictors(0.9, text_only=clear, shuffled=clear), kind)["leak"] is False


@pytest.mark.parametrize("length", [48, 49])
def test_randomised_phases_keep_spectrum_and_mean_and_lose_connectivity(length):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=length)
    series = shared + 0.3 * rng.normal(size=(40, length)) + 2.0
    found = randomise_phases(series, 0)
    assert np.abs(np.fft.rfft(found)) == pytest.approx(np.abs(np.fft.rfft(series)), abs=1e-6)
    assert found.mean(1) == pytest.approx(series.mean(1))
    upper = np.triu_indices(40, 1)
    assert np.corrcoef(series)[upper].mean() > 0.8
    assert abs(np.corrcoef(found)[upper].mean()) < 0.1
    assert (randomise_phases(series, 0) == found).all()
