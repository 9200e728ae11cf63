import json
from dataclasses import replace
from pathlib import Path

import pytest

from fmrilm.errors import InputError
from fmrilm.preparation.sources.find import compile_pattern, find_scans
from fmrilm.studies.known import COHORTS, CohortInfo, read_cohort_yaml

BIDS_NAME = (
    "sub-{s}/ses-{v}/func/sub-{s}_ses-{v}_task-rest_run-1_space-MNI152NLin6Asym_desc-preproc"
)
# For every cohort: files that are scans with the ids they must get, and files that are not.
TREES = {
    "UKB": (
        {
            "1000011_20227_2_0/fMRI/rfMRI.ica/reg_standard/filtered_func_data_clean.nii.gz": (
                "1000011", "2",
            ),
            "1000023_20227_3_0/fMRI/rfMRI.ica/filtered_func_data_clean_MNI.nii.gz": (
                "1000023", "3",
            ),
        },
        ["1000011_20227_2_0/fMRI/rfMRI.ica/filtered_func_data_clean.nii.gz"],
    ),
    "HCP": (
        {
            f"100307/MNINonLinear/Results/rfMRI_{run}/rfMRI_{run}_hp2000_clean.nii.gz": (
                "100307", run,
            )
            for run in ("REST1_LR", "REST1_RL", "REST2_LR", "REST2_RL")
        },
        [
            "100307/MNINonLinear/Results/tfMRI_WM_LR/tfMRI_WM_LR_hp2000_clean.nii.gz",
            "100307/MNINonLinear/Results/rfMRI_REST1_LR/rfMRI_REST1_RL_hp2000_clean.nii.gz",
        ],
    ),
    "HCP-Aging": (
        {
            f"HCA6002236_V1_MR/MNINonLinear/Results/rfMRI_{run}/rfMRI_{run}_hp0_clean.nii.gz": (
                "HCA6002236", run,
            )
            for run in ("REST1_AP", "REST1_PA")
        },
        ["HCA6002236_V1_MR/MNINonLinear/Results/rfMRI_REST1_AP/brainmask_fs.2.nii.gz"],
    ),
    "ADHD200": (
        {
            "NYU/0010001/snwmrda0010001_session_1_rest_1.nii.gz": ("0010001", "1_1"),
            "Peking_1/1050345/snwmrda1050345_session_2_rest_1.nii.gz": ("1050345", "2_1"),
        },
        ["NYU/0010001/sfnwmrda0010001_session_1_rest_1.nii.gz"],
    ),
    **{
        name: (
            {
                BIDS_NAME.format(s=subject, v=visit) + "_bold.nii.gz": (
                    f"sub-{subject}", f"ses-{visit}_task-rest_run-1",
                )
                for subject, visit in (("NDAR1", "base"), ("NDAR1", "year2"), ("0002S01", "base"))
            },
            [BIDS_NAME.format(s="NDAR1", v="base").replace("MNI152NLin6", "T1w") + "_bold.nii.gz"],
        )
        for name in ("ABCD", "ADNI", "ABIDE2", "BIDS")
    },
}  # fmt: skip


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize("name", list(COHORTS))
def test_the_scans_of_every_known_cohort_are_found_in_a_tree_of_its_shape(name, tmp_path):
    scans, others = TREES[name]
    _touch(tmp_path, *scans, *others)
    found = find_scans(tmp_path, COHORTS[name])
    keys = {str(scan.path.relative_to(tmp_path)): (scan.subject, scan.session) for scan in found}
    assert keys == scans
    order = [(scan.subject, scan.session) for scan in found]
    assert order == sorted(order)


def test_a_study_of_ones_own_is_a_yaml_file(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "files: ['{site}/{subject}_rest{run}.csv']\ntargets: [sex]\nsessions: first\n"
    )
    info = read_cohort_yaml(tmp_path / "mine.yaml")
    assert info.name == "mine"
    _touch(
        tmp_path, "Leipzig/p1_rest1.csv", "Leipzig/p1_rest2.csv", "Rome/p2_rest1.csv", "x/notes.csv"
    )
    found = [(scan.subject, scan.session) for scan in find_scans(tmp_path, info)]
    assert found == [("p1", "1"), ("p2", "1")]


def test_a_yaml_file_may_change_a_known_cohort(tmp_path):
    (tmp_path / "ukb.yaml").write_text("name: UKB\nt_r: 0.8\n")
    assert read_cohort_yaml(tmp_path / "ukb.yaml") == replace(COHORTS["UKB"], t_r=0.8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("descripton: x", "did you mean 'description'"),
        ("t_r: fast", "t_r is a str, expected a float"),
        ("sessions: last", "use all or first"),
        ("- a", "not a YAML file of keys"),
    ],
)
def test_a_wrong_yaml_file_is_refused(text, message, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_cohort_yaml(tmp_path / "mine.yaml")


def test_ids_as_studies_write_them(tmp_path):
    ids = ["002_S_0295", "A-01", "Zoé7", "S_01_a"]
    info = CohortInfo("x", "", files=["{site}/{subject}_{session}_rest{run}.npy"])
    _touch(tmp_path, *(f"Rom a/{name}_m06_rest1.npy" for name in ids))
    found = find_scans(tmp_path, info)
    assert {(s.subject, s.session) for s in found} == {(name, "m06_1") for name in ids}
    base = "sub-{0}/func/sub-{0}_ses-m06_task-rest_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz"
    _touch(tmp_path / "bids", *(base.format(name) for name in ids))
    found = find_scans(tmp_path / "bids", COHORTS["BIDS"])
    assert {s.subject for s in found} == {f"sub-{name}" for name in ids}
    assert {s.session for s in found} == {"ses-m06_task-rest"}


def test_runs_acquisitions_phases_and_resolutions_are_told_apart(tmp_path):
    base = "sub-1/func/sub-1_{}_space-MNI152NLin6Asym_{}desc-preproc_bold.nii.gz"
    runs = ["task-rest_acq-mb4_dir-AP_run-1", "task-rest_acq-mb4_dir-AP_run-2",
            "task-rest_acq-mb4_dir-PA_run-1", "task-rest_rec-norm_run-1"]  # fmt: skip
    _touch(tmp_path, *(base.format(run, "") for run in runs))
    _touch(tmp_path, base.format("task-rest_part-phase", ""), base.format("task-x_echo-2", ""))
    assert [s.session for s in find_scans(tmp_path, COHORTS["BIDS"])] == sorted(runs)
    picked = find_scans(tmp_path, COHORTS["BIDS"], bids={"run": "01", "dir": "AP"})
    assert [scan.session for scan in picked] == runs[:1]
    _touch(tmp_path, base.format(runs[0], "res-1_"), base.format(runs[0], "res-2_"))
    with pytest.raises(InputError, match=r"choose one with bids\.res=1 \(there are 1, 2\)"):
        find_scans(tmp_path, COHORTS["BIDS"])


def test_xcpd_tables_spaces_tasks_and_sidecars(tmp_path):
    base = "sub-1/func/sub-1_task-{}_space-{}_desc-{}_bold.nii.gz"
    _touch(
        tmp_path,
        base.format("rest", "MNI152NLin2009cAsym", "denoised"),
        base.format("rest", "MNI152NLin6Asym", "denoised"),
        base.format("rest", "MNI152NLin6Asym", "preproc"),
        base.format("nback", "MNI152NLin6Asym", "denoised"),
        "sub-1/func/sub-1_task-rest_space-MNI152NLin6Asym_desc-brain_mask.nii.gz",
        "sub-1/func/sub-1_task-rest_desc-confounds_timeseries.tsv",
        "sub-1/func/sub-1_task-rest_space-MNI152NLin6Asym_atlas-4S456Parcels_timeseries.tsv",
    )
    sidecar = tmp_path / base.format("rest", "MNI152NLin6Asym", "denoised").replace(
        "nii.gz", "json"
    )
    sidecar.write_text(json.dumps({"RepetitionTime": 0.8}))
    found = find_scans(tmp_path, COHORTS["BIDS"])
    assert [scan.session for scan in found] == ["task-nback", "task-rest"]
    rest = found[1]
    assert "space-MNI152NLin6Asym_desc-denoised" in rest.path.name
    assert rest.t_r == 0.8
    assert rest.mask.name.endswith("desc-brain_mask.nii.gz")
    assert rest.confounds.name.endswith("confounds_timeseries.tsv")
    one = find_scans(tmp_path, COHORTS["BIDS"], bids={"task": "rest", "desc": "preproc"})
    assert [scan.path.name.count("preproc") for scan in one] == [1]
    tables = find_scans(
        tmp_path, COHORTS["BIDS"], bids={"suffix": "timeseries", "atlas": "4S456Parcels"}
    )
    assert [scan.path.suffix for scan in tables] == [".tsv"]
    sidecar.write_text("{")
    with pytest.raises(InputError, match="correct the BIDS sidecar"):
        find_scans(tmp_path, COHORTS["BIDS"])


def test_no_scan_two_files_for_one_and_a_missing_folder_are_errors(tmp_path):
    info = CohortInfo("x", "", files=["{subject}.npy", "*/{subject}.npy"])
    with pytest.raises(InputError, match="no scan below"):
        find_scans(tmp_path, info)
    _touch(tmp_path, "a.npy", "b/a.npy")
    with pytest.raises(InputError, match="are both subject a"):
        find_scans(tmp_path, info)
    with pytest.raises(FileNotFoundError):
        find_scans(tmp_path / "nowhere", info)
    with pytest.raises(InputError, match=r"no \{subject\}"):
        compile_pattern("*/x.nii")
