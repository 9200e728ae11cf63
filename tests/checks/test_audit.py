import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

from fmrilm.checks.audit import audit, check_lineage
from fmrilm.cli import main
from fmrilm.cohort.cohort import Cohort, write_info
from fmrilm.cohort.labels import write_table
from fmrilm.cohort.scaling import Scaler
from fmrilm.cohort.store import write_store
from fmrilm.errors import InputError
from fmrilm.lineage.trained_on import write_trained_on
from fmrilm.studies.known import CohortInfo
from planted_leaks import LEAKS, Case, look, plant
from small import edited_store

COUNT = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a cohort of 60 people in 30 families, two sites, with a label that nothing tells."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("made") / "mine"
    ids = [f"sub-{i:02d}" for i in range(COUNT)]
    samples = [(name, "ses-1", rng.standard_normal((5, 40))) for name in ids]
    roi_ids = [str(i) for i in range(5)]
    write_store(
        folder / "data_resampled.h5", samples, t_r=2, atlas="five", roi_ids=roi_ids, source="test"
    )
    sex = np.tile(["F", "M", "M", "F"], COUNT // 4)
    people = pd.DataFrame(
        {
            "participant_id": ids,
            "sex": sex,
            "age": np.tile([30, 30, 50, 50], COUNT // 4) + rng.integers(0, 5, COUNT),
            "site": np.tile(["a", "a", "a", "a", "b", "b", "b", "b"], 8)[:COUNT],
            "mean_fd": rng.uniform(0.1, 0.3, COUNT).round(3),
            "family_id": [f"f{i // 2}" for i in range(COUNT)],
        }
    )
    write_table(people, folder / "participants.tsv")
    write_info(folder, CohortInfo("mine", "A test.", targets=["sex"], norm="robust_global"))
    Cohort(folder)  # makes the splits and fits the scaling
    return folder


@pytest.fixture
def clean(made, tmp_path):
    """Return a copy of the clean cohort, to be changed."""
    return shutil.copytree(made, tmp_path / "mine")


def _edit(folder, name, change):
    table = pd.read_csv(folder / name, sep="\t", dtype={"participant_id": str})
    write_table(change(table), folder / name)


def _codes(capsys, *arguments, **options):
    code = audit([str(folder) for folder in arguments], json=True, **options)
    found = json.loads(capsys.readouterr().out)
    assert code == int(bool(found["findings"]))
    return [finding["code"] for finding in found["findings"]]


def test_clean_splits_have_no_findings(clean, capsys):
    assert _codes(capsys, clean) == []


def test_a_subject_on_both_sides(clean, capsys):
    def double(table):
        other = "test" if table.loc[0, "split"] != "test" else "train"
        return pd.concat([table, pd.DataFrame([{**table.iloc[0], "split": other}])])

    _edit(clean, "splits.tsv", double)
    assert _codes(capsys, clean) == ["subject_in_two_splits"]


def test_a_family_on_both_sides(clean, capsys):
    def part(table):
        table.loc[0, "split"], table.loc[1, "split"] = "train", "test"
        return table

    (clean / "normalization_params.npz").unlink()
    _edit(clean, "splits.tsv", part)
    assert _codes(capsys, clean) == ["family_in_two_splits"]


def test_one_person_under_two_spellings(clean, capsys):
    with h5py.File(clean / "data_resampled.h5", "r+") as handle:
        names = handle["metadata/subjects"][()]
        names[0], names[2] = b"sub-007", b"7"
        handle["metadata/subjects"][...] = names

    def rename(table):
        table.loc[0, "participant_id"], table.loc[2, "participant_id"] = "sub-007", "7"
        return table

    def part(table):
        table = rename(table)
        table.loc[[0, 1], "split"], table.loc[[2, 3], "split"] = "train", "test"
        return table

    (clean / "normalization_params.npz").unlink()
    _edit(clean, "participants.tsv", rename)
    _edit(clean, "splits.tsv", part)
    assert _codes(capsys, clean) == ["same_subject_spelled_differently"]


def test_scaling_fitted_on_test(clean, capsys):
    cohort = Cohort(clean)
    scaler = Scaler("robust_global").fit(cohort.store, np.arange(len(cohort)))
    scaler.save(clean / "normalization_params.npz")
    assert _codes(capsys, clean) == ["scaling_fitted_on_test"]


def test_overlapping_windows_of_one_scan_in_different_splits(clean, capsys):
    table = Cohort(clean).table
    train, test = (int(np.flatnonzero(table["split"] == name)[0]) for name in ("train", "test"))
    with h5py.File(clean / "data_resampled.h5", "r+") as handle:
        first = handle[f"time_series/sample_{train}"]
        handle[f"time_series/sample_{test}"][:, :10] = first[:, 30:]
    assert _codes(capsys, clean) == ["overlap"]


def test_scans_with_values_that_are_no_numbers_are_not_passed_over(clean):
    with edited_store(clean) as handle:
        handle["time_series/sample_3"][1, 3] = np.nan
    with pytest.raises(InputError, match=r"sample_3 .* holds NaN or Inf"):
        audit([str(clean)])


def test_a_prompt_field_that_reveals_the_label(clean, capsys):
    _edit(clean, "participants.tsv", lambda t: t.assign(title=t["sex"].map({"F": "Ms", "M": "Mr"})))
    assert _codes(capsys, clean, add_desc="age") == []
    assert _codes(capsys, clean, add_desc="age,title") == ["field_reveals_label"]


def test_a_prompt_field_known_to_reveal_the_label(clean, capsys):
    _edit(
        clean,
        "participants.tsv",
        lambda t: t.assign(AD=(t["sex"] == "F").astype(int), mmse=28).drop(columns="sex"),
    )
    write_info(clean, CohortInfo("mine", "A test.", targets=["AD"]))
    assert _codes(capsys, clean, add_desc="age,mmse") == ["field_reveals_label"]


@pytest.mark.parametrize(("column", "code"), [("site", "site"), ("mean_fd", "motion")])
def test_site_or_motion_that_predicts_the_label(column, code, clean, capsys):
    def confound(table):
        female = table["sex"] == "F"
        swap = np.arange(COUNT) % 6 == 0
        if column == "site":
            table["site"] = np.where(female ^ swap, "a", "b")
        else:
            table["mean_fd"] = np.where(female ^ swap, 0.3, 0.1) + table["mean_fd"]
        return table

    _edit(clean, "participants.tsv", confound)
    assert _codes(capsys, clean) == [f"{code}_predicts_label"]


def test_the_same_people_in_two_cohorts_with_other_splits(clean, tmp_path, capsys):
    other = tmp_path / "second"
    shutil.copytree(clean, other)
    with h5py.File(other / "data_resampled.h5", "r+") as handle:
        for series in handle["time_series"].values():
            series[...] = series[()] * 2 + 1  # other scans of the same people
    write_info(other, CohortInfo("second", "A test.", targets=["sex"], norm="robust_roi"))
    assert _codes(capsys, clean, other) == []
    (other / "splits.tsv").unlink()
    (other / "normalization_params.npz").unlink()
    _edit(other, "participants.tsv", lambda table: table.sample(frac=1, random_state=1))
    assert "subject_in_two_splits" in _codes(capsys, clean, other)


def _run(folder, stage, parent, cohort=None):
    folder.mkdir()
    cohorts = {}
    if cohort is not None:
        cohorts = {"mine": {"folder": str(cohort.folder), "fingerprint": cohort.fingerprint()}}
    lineage = {"stage": stage, "parent": parent and str(parent), "cohorts": cohorts}
    (folder / "lineage.json").write_text(json.dumps(lineage))
    return folder


def test_a_test_scan_seen_by_an_earlier_stage(clean, tmp_path, capsys):
    before = Cohort(clean)
    tokenizer = _run(tmp_path / "tok", "tokenizer", None, before)
    write_trained_on(tokenizer, [before])
    instruct = _run(tmp_path / "inst", "instruct", tokenizer, before)
    write_trained_on(instruct, [before])
    assert _codes(capsys, clean, run=str(instruct)) == []
    swap = {"train": "test", "test": "train", "val": "val"}
    _edit(clean, "splits.tsv", lambda table: table.assign(split=table["split"].map(swap)))
    (clean / "normalization_params.npz").unlink()
    after = Cohort(clean)
    write_trained_on(instruct, [after])
    found = check_lineage(instruct, [after])
    assert [finding.code for finding in found] == ["test_seen_in_training"]
    assert "tokenizer" in found[0].message


def test_a_run_that_does_not_say_what_it_has_seen_is_judged_by_its_fingerprint(clean, tmp_path):
    before = Cohort(clean)
    run = _run(tmp_path / "tok", "tokenizer", None, before)
    assert check_lineage(run, [before]) == []
    swap = {"train": "test", "test": "train", "val": "val"}
    _edit(clean, "splits.tsv", lambda table: table.assign(split=table["split"].map(swap)))
    found = check_lineage(run, [Cohort(clean)])
    assert [finding.code for finding in found] == ["splits_changed"]


def test_the_command_line(clean, capsys):
    with pytest.raises(SystemExit) as end:
        main(["audit", str(clean)])
    assert end.value.code == 0
    assert "nothing found" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["audit", str(clean), "--run", "nowhere"])
    assert end.value.code == 2


@pytest.mark.parametrize("name", list(LEAKS))
def test_a_planted_leak_is_found(name, made, tmp_path):
    code, _ = LEAKS[name]
    assert code in [finding.code for finding in look(plant(name, made, tmp_path))]


def test_a_run_on_the_cohort_as_it_was_is_no_leak(clean, tmp_path):
    case = Case(clean)
    case.run = case.make_run("run", parent=case.make_run("tok", "tokenizer"))
    assert look(case) == []
