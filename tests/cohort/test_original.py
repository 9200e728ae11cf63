"""The original's data folder is a cohort as it lies."""

import shutil

import numpy as np
import pandas as pd
import pytest

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.foreign import METADATA
from fmrilm.cohort.original import find_cohort
from fmrilm.cohort.told import Teller
from fmrilm.errors import InputError
from fmrilm.evaluation.questions import select
from fmrilm.tasks import TASKS
from original_layout import contents
from small import make_cohort

PEOPLE = 30


@pytest.fixture
def folder(tmp_path):
    """A small folder in the original's layout: participants and texts in one table."""
    place = tmp_path / "data/HCP_Aging/fmri/TianS3"
    make_cohort(place, subjects=PEOPLE)
    people = pd.read_csv(place / "participants.tsv", sep="\t")
    for name in ("participants.tsv", "cohort.yaml", "atlas.tsv"):
        (place / name).unlink()
    words = ["Female" if sex == "F" else "Male" for sex in people["sex"]]
    text = [
        f"Info:\n- Demographics: {word} subject, {age}-year-old\n- Medical: MMSE 29, tall"
        for word, age in zip(words, people["age"], strict=True)
    ]
    table = pd.DataFrame(
        {
            "subject_id": people["participant_id"],
            "session_id": "1",
            "sex": (people["sex"] == "M").astype(float),
            "age": people["age"],
            "flanker_enc": np.arange(PEOPLE) % 3,
            "text_description": text,
        }
    )
    table.sample(frac=1, random_state=0).to_csv(place / METADATA, index=False)
    store = Cohort(make_cohort(tmp_path / "ours", subjects=PEOPLE)).store
    means = np.stack([store.read(i)[0].mean(1) for i in range(PEOPLE)])
    low, high = np.percentile(means, [25, 75])
    np.savez(
        place / "normalization_params.npz",
        medians=np.median(means), iqrs=high - low, mean=means.mean(), std=means.std(),
        mean_roi=means.mean(0), std_roi=means.std(0),
    )  # fmt: skip
    return place


def test_its_path_and_its_table_say_what_it_is(folder):
    cohort = Cohort(f"{folder}/")
    assert cohort.name == "HCP-Aging"
    assert "HCP-Aging" in cohort.info.description
    assert cohort.labels("sex").tolist() == ["M", "F"] * (PEOPLE // 2)
    assert cohort.labels("flanker_enc")[1] == 1
    assert set(cohort.table["split"]) == {"train", "val", "test"}


def test_nothing_in_it_is_written_and_our_files_go_where_we_are_told(folder, tmp_path):
    before = contents(folder)
    first = Cohort(folder)
    assert first.state is None
    first.fingerprints()
    kept = Cohort(folder, state=tmp_path / "state")
    kept.fingerprints()
    assert contents(folder) == before
    assert (tmp_path / "state/splits.tsv").is_file()
    assert kept.table["split"].tolist() == first.table["split"].tolist()


def test_its_scaling_is_used_with_a_note_on_whose_it_is(folder):
    assert Cohort(folder).notes == []
    cohort = Cohort(folder, "robust_global")
    assert "ALL people" in cohort.notes[0]
    assert cohort.scaler.fitted_on_ == sorted(cohort.store.subjects)
    of_regions = Cohort(folder, "standard_global_roi")
    assert len(of_regions.scaler.center_) == cohort.store.n_rois
    series = of_regions.store.read(3)[0]
    centre, scale = (np.array(x)[:, None] for x in (of_regions.scaler.center_,
                                                    of_regions.scaler.scale_))  # fmt: skip
    np.testing.assert_allclose(
        of_regions.read(3)[0], (series - centre) / scale, rtol=1e-4, atol=1e-5
    )
    with pytest.raises(InputError, match="medians_roi"):
        Cohort(folder, "robust_global_roi")


def test_sex_coded_the_other_way_round_is_refused(folder):
    table = pd.read_csv(folder / METADATA)
    table.assign(sex=1 - table["sex"]).to_csv(folder / METADATA, index=False)
    with pytest.raises(InputError, match="sex says otherwise than text_description"):
        Cohort(folder)


def test_its_text_is_told_without_what_gives_the_answer_away(folder):
    cohort = Cohort(folder)
    teller = Teller(cohort, ["auto"], [TASKS["sex"]])
    age = int(cohort.labels("age")[0])
    assert teller.facts(0) == {"description": f"{age}-year-old, MMSE 29, tall"}
    assert "'Male subject'" in teller.left_out(range(PEOPLE))
    assert "MMSE" not in Teller(cohort, ["auto"], [TASKS["flanker_enc"], TASKS["age"]]).facts(0)


def test_a_phrase_that_states_the_label_in_other_words_is_left_out(folder):
    table = pd.read_csv(folder / METADATA)
    table["text_description"] = [
        "tall, in group A" if s else "tall, in group B" for s in table["sex"]
    ]
    table.to_csv(folder / METADATA, index=False)
    assert Teller(Cohort(folder), ["auto"], [TASKS["sex"]]).facts(0) == {"description": "tall"}


def test_a_cohort_is_found_by_its_name(folder, monkeypatch):
    monkeypatch.chdir(folder.parents[3])
    assert find_cohort("HCP-Aging").resolve() == folder
    with pytest.raises(FileNotFoundError, match="data/UKB/fmri/TianS3"):
        find_cohort("UKB")


def test_everybody_is_in_one_fold_of_a_cohort_that_is_asked_in_full(folder):
    cohort = Cohort(folder)
    whole = select(cohort, TASKS["sex"], "all")
    parts = [select(c, TASKS["sex"], "test") for c in cohort.refolded(5, whole.rows, "sex")]
    assert sorted(row for part in parts for row in part.rows) == whole.rows.tolist()


def test_a_store_without_a_tr_has_two_seconds_whatever_the_scanner_had(folder, tmp_path):
    import h5py

    from fmrilm.atlases.atlas import Atlas
    from fmrilm.preparation.sources.read import ScanFile, read_series

    copy = shutil.copy(folder / "data_resampled.h5", tmp_path / "store.h5")
    with h5py.File(copy, "r+") as handle:
        del handle["metadata/t_r"], handle["metadata/roi_ids"]
    found = read_series(ScanFile("sub-001", "1", tmp_path / "store.h5", 1), Atlas.generic(12, "x"))
    assert found.t_r == 2.0
    assert any("TR 2 s" in note for note in found.notes)
