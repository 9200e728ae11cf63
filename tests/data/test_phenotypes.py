import pandas as pd
import pytest

from fmrilm.data.cohorts import COHORTS, CohortInfo
from fmrilm.data.phenotypes import add_bins, map_phenotypes
from fmrilm.errors import InputError
from fmrilm.tasks import TASKS

# One row of the table that each study hands out, and what it must become.
ROWS = {
    "UKB": (
        {"eid": "1000011", "31-0.0": "0", "21003-2.0": "63", "54-2.0": "11025", "20016-2.0": "7"},
        "1000011",
        {"sex": "F", "age": 63, "site": 11025, "fluidintel": 7},
    ),
    "ABCD": (
        {"src_subject_id": "NDAR_INV01", "sex": "M", "interview_age": "120",
         "site_id_l": "site16", "rel_family_id": "77"},
        "sub-NDARINV01",
        {"sex": "M", "age": 10, "family_id": 77},
    ),
    "HCP": (
        {"Subject": "100307", "Gender": "F", "Age_in_Yrs": "27",
         "CogFluidComp_Unadj": "112.5", "Family_ID": "51488_81352"},
        "100307",
        {"sex": "F", "fluidintel": 112.5, "family_id": "51488_81352"},
    ),
    "HCP-Aging": (
        {"src_subject_id": "HCA6002236", "sex": "F", "interview_age": "600", "site": "WashU",
         "nih_fluidcogcomp_unadjusted": "98", "nih_flanker_unadjusted": "101"},
        "HCA6002236",
        {"age": 50, "fluidintel": 98, "flanker": 101},
    ),
    "ADNI": (
        {"PTID": "002_S_0295", "PTGENDER": "Male", "AGE": "84.8", "SITE": "2", "DX_bl": "CN",
         "APOE4": "1", "AV45": "1.2"},
        "sub-002S0295",
        {"sex": "M", "AD": 0, "apoe4_enc": 1, "av45_enc": 1},
    ),
    "ADHD200": (
        {"ScanDir ID": "10001", "Gender": "1", "Age": "9.5", "Site": "5", "DX": "3"},
        "0010001",
        {"sex": "M", "ADHD": 1},
    ),
    "ABIDE2": (
        {"SUB_ID": "28675", "SEX": "2", "AGE_AT_SCAN": "11", "SITE_ID": "ABIDEII-BNI_1",
         "DX_GROUP": "2"},
        "sub-28675",
        {"sex": "F", "ASD": 0},
    ),
    "BIDS": ({"participant_id": "sub-1", "sex": "F", "iq": "n/a"}, "sub-1", {"sex": "F"}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(COHORTS))
def test_the_table_of_every_known_cohort_is_encoded_for_its_tasks(name, tmp_path):
    row, subject, wanted = ROWS[name]
    path = tmp_path / "table.csv"
    pd.DataFrame([row]).to_csv(path, index=False)
    table = map_phenotypes(path, COHORTS[name], [subject]).iloc[0]
    assert {key: table[key] for key in wanted} == wanted
    for target in COHORTS[name].targets:
        column = TASKS[target].column
        if column in table:  # the binned ones need training subjects
            assert TASKS[target].class_index(table[column]) is not None


def test_what_is_missing_or_no_clear_case_stays_missing(tmp_path):
    path = tmp_path / "adni.csv"
    rows = [
        {**ROWS["ADNI"][0], "PTID": "1", "DX_bl": "LMCI"},
        {**ROWS["ADNI"][0], "PTID": "2", "DX_bl": "AD", "APOE4": "", "AV45": "", "AGE": ""},
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    table = map_phenotypes(path, COHORTS["ADNI"], ["1", "2", "3"])
    assert table["AD"].isna().tolist() == [True, False, True]
    assert table.loc[1, ["apoe4_enc", "av45_enc", "age"]].isna().all()
    assert table["participant_id"].tolist() == ["1", "2", "3"]


def test_other_columns_of_a_generic_table_are_kept_as_numbers_where_they_are(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tscore\tgroup\nsub-1\t3.5\tx\nsub-2\tn/a\ty\n")
    table = map_phenotypes(path, COHORTS["BIDS"], ["sub-1", "sub-2"])
    assert table["score"].tolist()[0] == 3.5
    assert table["score"].isna().tolist() == [False, True]
    assert table["group"].tolist() == ["x", "y"]


def test_bins_are_fitted_on_the_training_subjects():
    table = pd.DataFrame(
        {"participant_id": list("abcdef"), "iq": [90.0, 100, 110, 500, 0, float("nan")]}
    )
    splits = {"a": "train", "b": "train", "c": "train", "d": "test", "e": "test", "f": "test"}
    found, fitted = add_bins(table, splits, ["iq"])
    assert found["iq_enc"].tolist()[:5] == [0, 1, 2, 2, 0]
    assert found["iq_enc"].isna().tolist()[5]
    assert fitted["iq_enc"]["mean"] == 100


@pytest.mark.parametrize(
    ("content", "info", "message"),
    [
        ("id,sex\n1,F\n", COHORTS["BIDS"], "no column 'participant_id'"),
        ("participant_id,iq\n1,low\n", CohortInfo("x", "", columns={"iq": "iq"}, bins=["iq"]),
         "holds text"),
        ("participant_id,iq\n1,1\n", CohortInfo("x", "", columns={"q": "IQ"}), "no column 'IQ'"),
        ("participant_id,iq\n1,1\n1,2\n", COHORTS["BIDS"], "2 rows with different 'iq'"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused(content, info, message, tmp_path):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        map_phenotypes(tmp_path / "t.csv", info, ["1"])
