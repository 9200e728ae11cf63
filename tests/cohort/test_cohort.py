import numpy as np
import pandas as pd
import pytest

from fmrilm.cohort.cohort import Cohort, read_info, write_info
from fmrilm.cohort.labels import write_table
from fmrilm.cohort.store import write_store
from fmrilm.errors import InputError
from fmrilm.studies.known import COHORTS, CohortInfo
from small import make_cohort

IDS = [f"s{i:02d}" for i in range(20)]


@pytest.fixture
def folder(tmp_path):
    """Return a cohort of 20 people, two sessions each, in another order than participants.tsv."""
    rng = np.random.default_rng(0)
    samples = [(s, v, rng.standard_normal((3, 30))) for v in ("2", "1") for s in IDS[::-1]]
    write_store(
        tmp_path / "data_resampled.h5",
        samples,
        t_r=2,
        atlas="three",
        roi_ids=["x", "y", "z"],
        source="test",
    )
    people = pd.DataFrame({"participant_id": IDS, "sex": ["F", "M"] * 10, "mean_fd": 0.5})
    write_table(people, tmp_path / "participants.tsv")
    return tmp_path


def test_labels_are_joined_by_id_never_by_position(folder):
    cohort = Cohort(folder)
    for index, subject in enumerate(cohort.store.subjects):
        row = cohort.table.iloc[index]
        assert row["subject_id"] == subject
        assert row["sex"] == ("F" if IDS.index(subject) % 2 == 0 else "M")


def test_both_sessions_of_a_person_are_in_one_split(folder):
    table = Cohort(folder).table
    assert all(len(set(rows["split"])) == 1 for _, rows in table.groupby("subject_id"))
    assert len(table) == 40


def test_splits_are_made_once_and_kept(folder):
    first = Cohort(folder).table["split"]
    text = (folder / "splits.tsv").read_text()
    assert Cohort(folder).table["split"].equals(first)
    assert (folder / "splits.tsv").read_text() == text


def test_what_is_known_of_a_scan_wins_over_what_is_known_of_the_person(folder):
    samples = pd.DataFrame(
        {"participant_id": ["s00", "s01"], "session_id": ["1", "2"], "mean_fd": [0.1, 0.2],
         "task": ["rest", "film"]}
    )  # fmt: skip
    write_table(samples, folder / "samples.tsv")
    table = Cohort(folder).table.set_index(["subject_id", "session_id"])
    assert table.loc[("s00", "1"), "mean_fd"] == 0.1
    assert table.loc[("s00", "2"), "mean_fd"] == 0.5
    assert table.loc[("s01", "2"), "task"] == "film"
    assert table["task"].isna().sum() == 38


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[:-1], "has no row for subject s19"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "subject s00 occurs twice"),
    ],
)
def test_wrong_participants_are_refused(change, message, folder):
    path = folder / "participants.tsv"
    write_table(change(pd.read_csv(path, sep="\t")), path)
    with pytest.raises(InputError, match=message):
        Cohort(folder)


def test_missing_files_columns_and_splits_are_refused(folder):
    cohort = Cohort(folder)
    with pytest.raises(InputError, match=r"no label column 'sx' \(did you mean 'sex'\?\)"):
        cohort.labels("sx")
    with pytest.raises(InputError, match="unknown split 'dev'"):
        cohort.indices("dev")
    with pytest.raises(FileNotFoundError, match="fmrilm describe"):
        cohort.descriptions(["fc"])
    splits = pd.read_csv(folder / "splits.tsv", sep="\t")
    write_table(splits.assign(split="train"), folder / "splits.tsv")
    with pytest.raises(InputError, match="the test split is empty"):
        Cohort(folder).indices("test")
    write_table(splits.iloc[1:], folder / "splits.tsv")
    with pytest.raises(InputError, match="has no row for subject s00"):
        Cohort(folder)
    (folder / "participants.tsv").unlink()
    with pytest.raises(FileNotFoundError, match="participant_id"):
        Cohort(folder)


def test_the_fingerprint_changes_with_the_splits(folder):
    before = Cohort(folder).fingerprint()
    assert Cohort(folder).fingerprint() == before
    splits = pd.read_csv(folder / "splits.tsv", sep="\t")
    swapped = splits.assign(split=splits["split"].map({"train": "test", "test": "train"}))
    write_table(swapped.fillna("val"), folder / "splits.tsv")
    assert Cohort(folder).fingerprint() != before


def test_what_is_known_of_a_cohort_comes_from_its_file_or_its_folder(tmp_path):
    original = tmp_path / "UKB" / "fmri" / "TianS3"
    original.mkdir(parents=True)
    assert read_info(original) == COHORTS["UKB"]
    mine = CohortInfo("mine", "A study.", targets=["sex"], values={"sex": {"1": "M"}})
    write_info(tmp_path, mine)
    assert read_info(tmp_path) == mine


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n", "{}\n"])
def test_a_cohort_file_that_says_nothing_is_refused(tmp_path, content):
    """Cut off, it would make a SYNTHETIC cohort pass for a real one."""
    folder = make_cohort(tmp_path / "toy")
    (folder / "cohort.yaml").write_text(content)
    with pytest.raises(InputError, match=r"cohort\.yaml says nothing"):
        Cohort(folder)


@pytest.mark.parametrize("name", ["[UKB]", "{UKB: 1}", "1", "null"])
def test_a_name_that_is_no_text_is_refused(tmp_path, name):
    folder = make_cohort(tmp_path / "toy")
    (folder / "cohort.yaml").write_text(f"name: {name}\ntargets: [sex]\n")
    with pytest.raises(InputError, match=r"cohort\.yaml: name is a"):
        Cohort(folder)


@pytest.mark.parametrize("name", [["UKB"], {}, None, 3])
def test_what_is_no_text_is_in_no_registry(name):
    assert name not in COHORTS
    with pytest.raises(InputError, match="unknown cohort"):
        COHORTS[name]
