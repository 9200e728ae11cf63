import pandas as pd
import pytest

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.splits import deal_folds
from fmrilm.datasets.folds import make_folds, read_fold
from fmrilm.errors import InputError
from small import make_cohort


def _splits(folder):
    table = Cohort(folder).table
    return table.drop_duplicates("subject_id").set_index("subject_id")["split"]


def test_every_person_is_tested_exactly_once(tmp_path):
    folder = make_cohort(tmp_path / "mine")
    made = make_folds(folder, count=5)
    assert len(made) == 5
    tested = [name for fold in made for name in _splits(fold).loc[lambda s: s == "test"].index]
    assert sorted(tested) == sorted(Cohort(folder).table["subject_id"])
    for number, fold in enumerate(made):
        counts = _splits(fold).value_counts()
        assert counts["test"] == 8
        assert counts["val"] in (4, 5)
        assert (read_fold(fold).fold, read_fold(fold).of) == (number, 5)
        assert Cohort(fold).name == Cohort(folder).name
    assert len({read_fold(fold).table for fold in made}) == 1
    assert read_fold(folder) is None


def test_sexes_are_spread_over_the_folds_and_families_stay_together():
    people = pd.DataFrame({"participant_id": [f"s{i}" for i in range(40)]})
    people["sex"] = ["M"] * 20 + ["F"] * 20
    folds = deal_folds(people, 5, ["sex"], seed=3)["fold"]
    assert pd.crosstab(folds, people["sex"]).to_numpy().tolist() == [[4, 4]] * 5
    people["family_id"] = [f"f{i // 2}" for i in range(40)]
    folds = deal_folds(people, 4, seed=3)["fold"]
    assert len(set(zip(people["family_id"], folds, strict=True))) == 20


def test_folds_are_frozen(tmp_path):
    folder = make_cohort(tmp_path / "mine")
    made = make_folds(folder, count=4, seed=2)
    before = [(fold / "splits.tsv").read_text() for fold in made]
    assert make_folds(folder, count=4, seed=2) == made
    assert [(fold / "splits.tsv").read_text() for fold in made] == before
    assert make_folds(folder, count=4, seed=3)[0] != made[0]

    text = before[0].replace("test", "train", 1)
    (made[0] / "splits.tsv").write_text(text)
    with pytest.raises(InputError, match="is not what the folds say"):
        make_folds(folder, count=4, seed=2)


def test_folds_of_another_state_of_the_cohort_are_refused(tmp_path):
    folder = make_cohort(tmp_path / "mine")
    make_folds(folder, count=4)
    people = (folder / "participants.tsv").read_text()
    (folder / "participants.tsv").unlink()  # a link would change in both places
    (folder / "participants.tsv").write_text(people.replace("sub-001", "sub-999"))
    with pytest.raises(InputError, match="name different people"):
        make_folds(folder, count=4)
    (folder / "participants.tsv").write_text(people)
    (folder / "data_resampled.h5").unlink()
    make_cohort(folder, effect=0.0)
    with pytest.raises(InputError, match="another state of the cohort"):
        make_folds(folder, count=4)


def test_too_many_folds_are_refused(tmp_path):
    folder = make_cohort(tmp_path / "mine", subjects=6)
    with pytest.raises(InputError, match="6 subjects are too few for 7 folds"):
        make_folds(folder, count=7)
    with pytest.raises(InputError, match="two or more"):
        make_folds(folder, count=1)
