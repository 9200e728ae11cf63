"""Tables of the original are read as they are."""

import pandas as pd
import pytest

from fmrilm.descriptors import verify
from fmrilm.descriptors.tables import join_families, our_name, read_table
from fmrilm.errors import InputError


def write(path, **columns):
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Cont-Default", "fc__Cont__Default"),
        ("Cont-Cont_z", "fc__Cont__Cont_z"),
        ("gradient2_range_z", "gradient2_range_z"),
        ("gradient3_var", "gradient3_variance"),
        ("gradient1_SomMot_mean_z", "gradient1__SomMot_z"),
        ("strength_Vis", "strength__Vis"),
        ("avg_clustering_z", "average_clustering_z"),
        ("fc__Vis__Default", "fc__Vis__Default"),
        ("desc_g1", "desc_g1"),
        ("summary", "summary"),
    ],
)
def test_columns_of_the_original_get_our_names(theirs, ours):
    assert our_name(theirs) == ours


def test_rewritten_text_comes_first_and_ids_stay_text(tmp_path):
    path = write(
        tmp_path / "fc_descriptors.csv",
        subject_id=["0012", "7"],
        session_id=[2, 2],
        **{"Vis-Default": [0.1, 0.2], "Vis-Default_z": [2.5, -0.5]},
        summary=["template one", "template two"],
        summary_rewritten=["reworded one", None],
    )
    table = read_table(path)
    assert list(table["subject_id"]) == ["0012", "7"]
    assert list(table["session_id"]) == ["2", "2"]
    assert list(table["summary"]) == ["reworded one", "template two"]
    text = "Connectivity between the visual and default mode networks is markedly higher."
    assert verify(text, table.iloc[0].to_dict()).is_true


def test_families_are_joined_by_id_never_by_row(tmp_path):
    first = write(tmp_path / "a.csv", subject_id=["1", "2"], x=[1, 2], summary=["a1", "a2"])
    second = write(tmp_path / "b.csv", subject_id=["2", "3"], y=[5, 6], summary=["b2", "b3"])
    joined = join_families([read_table(first), read_table(second)]).set_index("subject_id")
    assert joined.loc["2", "summary"] == "a2 b2"
    assert joined.loc["3", "summary"] == "b3"
    assert joined.loc["2", "y"] == 5
    assert pd.isna(joined.loc["1", "y"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"summary": ["x"]}, "no column subject_id"),
        ({"subject_id": ["1"]}, "no column summary"),
        ({"subject_id": ["1", "1"], "summary": ["x", "y"]}, "occurs twice"),
    ],
)
def test_other_tables_are_refused(tmp_path, columns, message):
    with pytest.raises(InputError, match=message):
        read_table(write(tmp_path / "x.csv", **columns))


def test_a_missing_table_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="fmrilm describe"):
        read_table(tmp_path / "none.csv")
