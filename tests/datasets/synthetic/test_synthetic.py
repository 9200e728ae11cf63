import json

import numpy as np
import pytest

from fmrilm.atlases.atlas import Atlas
from fmrilm.cohort.cohort import Cohort
from fmrilm.datasets.synthetic.cohort import PLANS, simulate
from fmrilm.datasets.synthetic.effects import EFFECTS, NETWORKS, planted_sizes
from fmrilm.datasets.synthetic.signal import group_covariance
from fmrilm.errors import InputError
from fmrilm.studies.known import COHORTS
from fmrilm.tasks import TASKS


@pytest.mark.parametrize("name", list(PLANS))
def test_every_known_cohort_can_be_simulated_with_the_labels_its_tasks_need(name, tmp_path):
    cohort = Cohort(simulate(str(tmp_path / name), cohort=name, subjects=24, timepoints=40))
    assert cohort.info.synthetic
    assert "SYNTHETIC" in cohort.info.source
    assert cohort.name == name
    assert cohort.store.shape(0) == (450, 40)
    assert cohort.atlas == Atlas.load("schaefer400_tianS3")
    for task in cohort.info.targets:
        labels = [TASKS[task].class_index(v) for v in cohort.labels(TASKS[task].column)]
        assert len(set(labels)) > 1
    low, high = PLANS[name].age[2:]
    assert cohort.labels("age").between(low, high).all()
    assert (cohort.labels("mean_fd") > 0).all()
    effects = json.loads((cohort.folder / "planted_effects.json").read_text())["effects"]
    assert {effect["phenotype"] for effect in effects} <= set(cohort.table.columns)


def test_the_seven_cohorts_of_the_original_can_be_simulated():
    assert set(PLANS) == set(COHORTS) - {"BIDS"}


def test_the_same_seed_gives_the_same_cohort_and_another_seed_another(tmp_path):
    def series(folder, seed):
        cohort = Cohort(simulate(str(tmp_path / folder), subjects=10, timepoints=20, seed=seed))
        return cohort.store.read(3)[0], cohort.table

    (first, table), (again, table_again), (other, _) = (
        series("a", 0), series("b", 0), series("c", 1)
    )  # fmt: skip
    np.testing.assert_array_equal(first, again)
    assert table.equals(table_again)
    assert not np.array_equal(first, other)


@pytest.fixture(scope="module")
def ukb(tmp_path_factory):
    return Cohort(simulate(str(tmp_path_factory.mktemp("ukb")), cohort="UKB", subjects=240))


def test_what_is_measured_on_the_scans_is_what_was_planted(ukb):
    effects = json.loads((ukb.folder / "planted_effects.json").read_text())["effects"]
    planted = np.array([effect["d"] for effect in effects])
    difference = np.array([effect["measured_d"] for effect in effects]) - planted
    assert np.abs(difference).max() < 3.5 * 2 / np.sqrt(240)  # standard error of d: 0.13
    assert abs(np.mean(difference * np.sign(planted))) < 0.1


def test_functional_connectivity_tells_sex_neither_trivially_nor_by_chance(ukb):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    upper = np.triu_indices(450, 1)
    fc = np.array([np.corrcoef(ukb.read(i)[0])[upper].astype(np.float32) for i in range(len(ukb))])
    female = (ukb.labels("sex") == "F").to_numpy()
    train = ukb.table["split"].isin(["train", "val"]).to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-4))
    scores = model.fit(fc[train], female[train]).decision_function(fc[~train])
    assert 0.8 < roc_auc_score(female[~train], scores) < 0.99


def test_a_person_is_more_like_themselves_than_like_others(ukb):
    upper = np.triu_indices(450, 1)
    twice = ukb.table[ukb.table["session_id"] == "ses-2"]["subject_id"]
    profiles = {
        session: np.array(
            [
                np.corrcoef(ukb.read(i)[0])[upper]
                for i in ukb.table.index[
                    ukb.table["subject_id"].isin(twice) & (ukb.table["session_id"] == session)
                ]
            ]
        )
        for session in ("ses-1", "ses-2")
    }
    assert len(twice) > 5
    both = np.corrcoef(profiles["ses-1"], profiles["ses-2"])[: len(twice), len(twice) :]
    assert (both.argmax(1) == np.arange(len(twice))).mean() > 0.7


def test_the_spectrum_is_that_of_bold(ukb):
    power = np.mean([np.abs(np.fft.rfft(ukb.read(i)[0])) ** 2 for i in range(20)], axis=(0, 1))
    frequency = np.fft.rfftfreq(160, 2.0)
    band = (frequency >= 0.01) & (frequency <= 0.1)
    assert power[band].sum() / power[1:].sum() > 0.7
    slow = power[(frequency > 0.01) & (frequency < 0.03)].mean()
    assert slow > 2 * power[(frequency > 0.07) & (frequency < 0.1)].mean()


def test_sites_differ_in_scale_and_offset(ukb):
    means = [ukb.store.read(i)[0].mean() for i in range(len(ukb))]
    by_site = ukb.table.assign(mean=means).groupby("site")["mean"]
    assert by_site.mean().std() > 10 * by_site.std().max()


def test_the_group_covariance_is_a_correlation_matrix_with_networks():
    atlas = Atlas.load("schaefer400_tianS3")
    matrix, _ = group_covariance(atlas)
    np.testing.assert_allclose(np.diag(matrix), 1)
    assert np.linalg.eigvalsh(matrix)[0] > 0.01
    network = np.array(atlas.networks)
    same = network[:, None] == network[None]
    np.fill_diagonal(same, False)
    assert matrix[same].mean() > matrix[~same].mean() + 0.05


def test_effects_name_known_networks_and_each_pair_once():
    seen = set()
    for effect in EFFECTS:
        assert set(effect.networks) <= set(NETWORKS)
        key = (effect.phenotype, effect.kind, frozenset(effect.networks))
        assert key not in seen
        seen.add(key)
    sizes = planted_sizes({"sex": 0.5}, "connectivity")
    np.testing.assert_array_equal(sizes, sizes.T)


@pytest.mark.parametrize("arguments", [{"cohort": "UKBB"}, {"subjects": 3}, {"timepoints": 5}])
def test_wrong_arguments_are_refused(arguments, tmp_path):
    with pytest.raises(InputError):
        simulate(str(tmp_path), **arguments)
