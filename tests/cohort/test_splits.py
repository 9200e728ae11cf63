import numpy as np
import pandas as pd
import pytest

from fmrilm.cohort.splits import read_splits, split_subjects
from fmrilm.errors import InputError


def _people(count=100, **columns):
    return pd.DataFrame({"participant_id": [f"s{i:03d}" for i in range(count)], **columns})


def test_everyone_is_in_one_split_in_the_wanted_shares():
    table = split_subjects(_people())
    assert table["participant_id"].is_unique
    assert table["split"].value_counts().to_dict() == {"train": 70, "test": 20, "val": 10}


def test_labels_are_spread_in_proportion():
    people = _people(sex=["F"] * 60 + ["M"] * 40)
    table = split_subjects(people, ["sex"]).merge(people)
    for _, rows in table.groupby("split"):
        assert abs((rows["sex"] == "F").mean() - 0.6) < 0.06


def test_families_stay_together():
    family = [f"f{i // 3}" if i < 60 else None for i in range(100)]
    table = split_subjects(_people(family_id=family)).merge(_people(family_id=family))
    for _, members in table.dropna().groupby("family_id"):
        assert len(set(members["split"])) == 1
    shares = table["split"].value_counts(normalize=True)
    np.testing.assert_allclose(shares[["train", "val", "test"]], [0.7, 0.1, 0.2], atol=0.04)


def test_new_subjects_are_added_and_nobody_moves():
    before = split_subjects(_people(80)).set_index("participant_id")["split"].to_dict()
    after = split_subjects(_people(100), known=before).set_index("participant_id")["split"]
    assert {name: after[name] for name in before} == before
    assert after.value_counts().to_dict() == {"train": 70, "test": 20, "val": 10}


def test_the_seed_decides():
    first, again, other = (split_subjects(_people(), seed=seed) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_too_few_subjects_are_refused():
    with pytest.raises(InputError, match="too few"):
        split_subjects(_people(3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("participant_id\tsplit\na\ttrain\na\ttest\n", "occurs twice"),
        ("participant_id\tsplit\na\tdev\n", "unknown split 'dev'"),
        ("subject\tsplit\na\ttrain\n", "no column 'participant_id'"),
    ],
)
def test_a_wrong_file_is_refused(text, message, tmp_path):
    (tmp_path / "splits.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_splits(tmp_path / "splits.tsv")
