import pandas as pd
import pytest

from fmrilm.cohort.labels import read_participants
from fmrilm.errors import InputError
from fmrilm.studies.known import COHORTS, CohortInfo
from fmrilm.studies.phenotypes import add_bins, map_phenotypes
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
    table = map_phenotypes(path, COHORTS[name], [subject]).people.iloc[0]
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
    table = map_phenotypes(path, COHORTS["ADNI"], ["1", "2", "3"]).people
    assert table["AD"].isna().tolist() == [True, False, True]
    assert table.loc[1, ["apoe4_enc", "av45_enc", "age"]].isna().all()
    assert table["participant_id"].tolist() == ["1", "2", "3"]


def test_other_columns_of_a_generic_table_are_kept_as_numbers_where_they_are(tmp_path):
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tscore\tgroup\nsub-1\t3.5\tx\nsub-2\tn/a\ty\n")
    table = map_phenotypes(path, COHORTS["BIDS"], ["sub-1", "sub-2"]).people
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


def write(path, rows, encoding="utf-8", separator=","):
    lines = [separator.join(map(str, row)) for row in rows]
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode(encoding))
    return path


def mapped(path, info, subjects):
    return map_phenotypes(path, info, subjects)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("blank", ["", " "])
def test_abide_2_is_read_as_it_is_published(encoding, separator, blank, tmp_path):
    rows = [["SITE_ID", "SUB_ID", "DX_GROUP", f"AGE_AT_SCAN{blank}", "SEX", "CURRENT_MED"]]
    rows += [
        [
            "ABIDEII-BNI_1",
            29006 + i,
            1 + i % 2,
            f"{9 + i / 4:.2f}",
            f"{1 + i % 2}{blank}",
            "mélatonine",
        ]
        for i in range(6)
    ]
    if separator == ";":  # a European Excel writes commas as well
        rows[1:] = [[str(cell).replace(".", ",") for cell in row] for row in rows[1:]]
    path = write(tmp_path / "t.csv", rows, encoding, separator)
    found = mapped(path, COHORTS["ABIDE2"], [f"sub-{29006 + i}" for i in range(6)])
    assert found.matched == 6
    assert found.people["sex"].tolist() == ["M", "F"] * 3
    assert found.people["ASD"].tolist() == [1, 0] * 3
    assert found.people["age"].tolist() == [9, 9.25, 9.5, 9.75, 10, 10.25]
    assert found.people["site"].unique().tolist() == ["ABIDEII-BNI_1"]


ADNIMERGE = [
    ["RID", "PTID", "VISCODE", "SITE", "DX_bl", "AGE", "PTGENDER", "APOE4", "AV45", "DX"],
    [295, "002_S_0295", "m12", 2, "CN", 84.8, "Male", 1, 1.3, "CN"],
    [295, "002_S_0295", "bl", 2, "CN", 84.8, "Male", 1, "NA", "CN"],
    [413, "002_S_0413", "bl", 2, "AD", 76.3, "Female", 0, 1.0, "Dementia"],
    [413, "002_S_0413", "m06", 2, "AD", 76.3, "Female", 0, "", "Dementia"],
    [729, "002_S_0729", "m06", 2, "LMCI", 65.1, "Female", -4, 1.2, "MCI"],
    [999, "002_S_0999", "bl", 3, "CN", 60.0, "Female", 0, 1.2, "CN"],
]  # fmt: skip


def test_adnimerge_gives_people_their_first_visit_and_scans_their_own(tmp_path):
    from fmrilm.preparation.participants import People, write_participants

    path = write(tmp_path / "ADNIMERGE.csv", ADNIMERGE)
    ids = ["sub-ADNI002S0295", "sub-ADNI002S0413", "sub-ADNI002S0729"]
    found = mapped(path, COHORTS["ADNI"], ids)
    assert found.matched == 3
    people = found.people.set_index("participant_id")
    assert people["AD"].tolist()[:2] == [0, 1]
    assert people["AD"].isna().tolist() == [False, False, True]
    assert people["av45_enc"].isna().tolist() == [True, False, False]
    assert people["apoe4_enc"].isna().tolist() == [False, False, True]
    sessions = ["M000", "M012", "M000_task-rest", "M006"]
    scans = pd.DataFrame({"participant_id": [*ids[:1] * 2, *ids[1:2] * 2], "session_id": sessions})
    info = CohortInfo("ADNI", "")
    many = pd.DataFrame({"participant_id": [f"p{i}" for i in range(20)]})
    table = pd.concat([found.people, many], ignore_index=True)
    scans = pd.concat([scans, many.assign(session_id="M000")], ignore_index=True)
    write_participants(tmp_path, info, People(table, found.visits), scans)
    samples = pd.read_csv(tmp_path / "samples.tsv", sep="\t", dtype=str).head(4)
    assert list(samples) == ["participant_id", "session_id", "av45_enc"]
    assert samples["av45_enc"].fillna("n/a").tolist() == ["n/a", "1.0", "0.0", "n/a"]


def test_without_a_column_for_visits_differing_rows_are_refused(tmp_path):
    info = CohortInfo("x", "", columns={"subject": "PTID", "sex": "PTGENDER"})
    with pytest.raises(InputError, match=r"different 'VISCODE'.*columns: \{session: NAME\}"):
        mapped(write(tmp_path / "t.csv", ADNIMERGE), info, ["002S0295"])


def test_adhd_200_is_read_as_it_is_published(tmp_path):
    names = [
        "ScanDir ID",
        "Site",
        "Gender",
        "Age",
        "Handedness",
        "DX",
        "Secondary Dx ",
        "ADHD Index",
    ]
    rows = [
        names,
        ["0010001", 5, 0, 10.5, 1, 0, "", 45],
        ["0010002", 5, 1, 9.1, 1, 3, "ODD", -999],
        ["0010003", 5, -999, -999, 1, -999, "", -999],
        ["0010004", 5, 1, 8, 1, "pending", "", 1],
    ]
    path = write(tmp_path / "t.tsv", rows, separator="\t")
    found = mapped(path, COHORTS["ADHD200"], ["10001", "sub-0010002", "0010003", "0010004"])
    people = found.people
    assert people["ADHD"].tolist()[:2] == [0, 1]
    assert people["ADHD"].isna().tolist() == [False, False, True, True]
    assert people["sex"].fillna("?").tolist() == ["F", "M", "?", "M"]
    assert people["age"].isna().tolist() == [False, False, True, False]
    assert not found.notes


@pytest.mark.parametrize("style", ["31-0.0", "f.31.0.0", "p31"])
def test_ukb_fields_are_read_under_each_of_their_names(style, tmp_path):
    names = {
        "31-0.0": ["eid", "31-0.0", "21003-2.0", "54-2.0", "20016-2.0"],
        "f.31.0.0": ["f.eid", "f.31.0.0", "f.21003.2.0", "f.54.2.0", "f.20016.2.0"],
        "p31": ["eid", "p31", "p21003_i2", "p54_i2", "p20016_i2"],
    }[style]
    sexes = ["Female", "Male"] if style == "p31" else [0, 1]
    rows = [names, [1000011, sexes[0], 63, 11025, 7], [1000012, sexes[1], 70, 11025, ""]]
    found = mapped(write(tmp_path / "t.csv", rows), COHORTS["UKB"], ["1000011", "1000012"])
    assert found.people["sex"].tolist() == ["F", "M"]
    assert found.people["fluidintel"].tolist()[0] == 7
    assert found.people["fluidintel"].isna().tolist() == [False, True]


def test_the_open_table_of_hcp_is_read_and_its_scores_fit_the_tasks(tmp_path):
    rows = [
        [
            "Subject",
            "Release",
            "Gender",
            "Age",
            "PMAT24_A_CR",
            "CogFluidComp_Unadj",
            "Flanker_Unadj",
        ],
        [100307, "Q1", "F", "26-30", 17, 115.3, 130.42],
        [100408, "Q3", "M", "36+", 24, 121.1, 98.2],
    ]
    found = mapped(write(tmp_path / "t.csv", rows), COHORTS["HCP"], ["100307", "100408"])
    assert found.people["fluidintel"].tolist() == [17, 24]
    assert found.people["age"].isna().all()
    assert "2 ranges of years" in found.notes[0]
    for name in ("fluidintel", "flanker"):
        assert all(TASKS[name].class_index(value) is not None for value in found.people[name])
    assert TASKS["fluidintel"].class_index(115.3) is not None


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("51000.0", "0051000"),
        ("51000", "sub-0051000"),
        ("002_S_0295", "sub-ADNI002S0295"),
        ("ADNI_002_S_0295", "002S0295"),
        ("NDAR_INV0AB", "sub-NDARINV0AB"),
        (" S-ü1 ", "sub-Sü1"),
    ],
)
def test_ids_are_matched_as_programs_change_them(theirs, ours, tmp_path):
    path = write(tmp_path / "t.csv", [["id", "sex"], [theirs, "F"]])
    info = CohortInfo("x", "", columns={"subject": "id", "sex": "sex"})
    assert mapped(path, info, [ours]).matched == 1


def test_people_who_do_not_match_are_counted_and_nobody_is_an_error(tmp_path):
    path = write(tmp_path / "t.csv", [["id", "sex"], [1, "F"], ["Y2", "M"]])
    info = CohortInfo("x", "", columns={"subject": "id", "sex": "sex"})
    found = mapped(path, info, ["001", "002", "003"])
    assert found.matched == 1
    assert found.people["sex"].fillna("?").tolist() == ["F", "?", "?"]
    with pytest.raises(
        InputError, match=r"the 2 people .* called 7, \.\.\., its column 'id' holds 1"
    ):
        mapped(path, info, ["7", "8"])


def test_words_of_bids_and_missing_codes(tmp_path):
    sexes = ["male", "m", "M ", "female", "f", " F", "O", "other", "NA", "n/a"]
    ages = [20, 21, "89+", 999, -9, "n/a", "NA", 30, 31, 32]
    sites = ["NA", "None", *["São Paulo"] * 8]
    rows = [
        ["participant_id", "sex", "age", "site"],
        *zip(range(10), sexes, ages, sites, strict=True),
    ]
    found = mapped(write(tmp_path / "t.csv", rows), COHORTS["BIDS"], [str(i) for i in range(10)])
    assert found.people["sex"].fillna("?").tolist() == [*"MMMFFF", *"????"]
    assert found.people["site"].tolist() == sites
    assert found.people["age"].tolist()[:5] == [20, 21, 89, 999, -9]
    assert sorted(note.partition(" in ")[0] for note in found.notes) == ["age is -9", "age is 999"]
    info = CohortInfo("BIDS", "", columns=COHORTS["BIDS"].columns, missing={"age": [-9, 999]})
    found = mapped(tmp_path / "t.csv", info, [str(i) for i in range(10)])
    assert found.people["age"].isna().sum() == 4
    assert not found.notes


def test_codes_of_which_none_is_known_are_an_error(tmp_path):
    info = CohortInfo("x", "", columns={"subject": "id", "sex": "sex"}, values={"sex": {"1": "M"}})
    with pytest.raises(InputError, match=r"'sex' holds '7', '8'; values of sex .* knows 1"):
        mapped(write(tmp_path / "t.csv", [["id", "sex"], [1, 7], [2, 8]]), info, ["1", "2"])


def test_participants_as_people_leave_them(tmp_path):
    """The file of a cohort folder: read alike in every encoding, or one sentence."""
    rows = [["participant_id", "sex", "age", "site"]]
    rows += [
        [f"sub-{i:03d}", "MF"[i % 2], 20 + i, ("São Paulo", "NA", "None")[i % 3]] for i in range(9)
    ]
    path = tmp_path / "participants.tsv"

    def people():
        return read_participants(tmp_path)

    wanted = people() if write(path, rows, separator="\t") else None
    assert wanted["site"].tolist()[:3] == ["São Paulo", "NA", "None"]
    assert wanted["age"].dtype.kind == "i"
    for encoding in ("utf-8-sig", "cp1252", "utf-16"):
        write(path, rows, encoding, "\t")
        pd.testing.assert_frame_equal(people(), wanted)
    write(path, rows, separator=",")
    pd.testing.assert_frame_equal(people(), wanted)
    write(path, [*rows, [""], [""]], separator="\t")
    pd.testing.assert_frame_equal(people(), wanted)
    write(path, [rows[0], *([f"{row[0]} ", *row[1:]] for row in rows[1:])], separator="\t")
    pd.testing.assert_frame_equal(people(), wanted)
    for change, message in (
        ([["id", *rows[0][1:]], *rows[1:]], "no column 'participant_id'"),
        ([*rows, rows[3]], "subject sub-002 occurs twice"),
        ([*rows[:5], [*rows[5], "note"], *rows[6:]], "line 6 has 5 columns"),
        ([*rows[:5], [*rows[5][:3], '"open'], *rows[6:]], "line 6.*quotation"),
        ([[*rows[0][:3], "sex"], *rows[1:]], "column 'sex' twice"),
    ):
        write(path, change, separator="\t")
        with pytest.raises(InputError, match=message) as error:
            people()
        assert "participants.tsv" in str(error.value)
