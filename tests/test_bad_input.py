"""Wrong input at the command line: one clear sentence, exit code 2, no traceback."""

import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

from fmrilm.cli import main
from small import TINY_MODEL, make_cohort


@pytest.fixture
def folder(cohort_folder, tmp_path):
    """Return a copy of the test cohort that may be spoiled."""
    return shutil.copytree(cohort_folder, tmp_path / "cohort")


def complaint(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words])
    text = capsys.readouterr().err
    assert ended.value.code == 2, text
    assert "Traceback" not in text
    sentence = " ".join(text.split())
    assert sentence.startswith("fmrilm: ")
    return sentence


def train(capsys, folder, *options: str) -> str:
    words = ["train", "tokenizer", "-o", str(folder / "run"), *TINY_MODEL]
    return complaint(capsys, *words, f"data.dataset_dir=[{folder}]", *options)


def test_a_cohort_of_which_nothing_is_asked(capsys, tmp_path, runs):
    folder = make_cohort(tmp_path / "cohort", subjects=20, targets=[])
    words = ["train", "instruct", "-o", str(tmp_path / "run"), "--init", str(runs["align"])]
    said = complaint(capsys, *words, f"data.dataset_dir=[{folder}]")
    assert "nothing is asked of test: name tasks, as in instruct.tasks=[sex]" in said


def series(folder, index: int, change) -> None:
    with h5py.File(folder / "data_resampled.h5", "r+") as handle:
        values = handle[f"time_series/sample_{index}"]
        values[...] = change(values[...])


def test_a_missing_store(capsys, folder):
    (folder / "data_resampled.h5").unlink()
    assert "data_resampled.h5 not found" in train(capsys, folder)


def test_a_file_that_is_no_hdf5(capsys, folder):
    (folder / "data_resampled.h5").write_text("hello")
    assert "is not an HDF5 file" in train(capsys, folder)


def test_hdf5_of_another_layout(capsys, folder):
    with h5py.File(folder / "data_resampled.h5", "w") as handle:
        handle["bold"] = np.zeros((3, 4))
    assert "has no 'time_series'" in train(capsys, folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_series_that_is_not_finite_is_named(capsys, folder, value):
    split = pd.read_csv(folder / "splits.tsv", sep="\t").set_index("participant_id")["split"]
    index = int(np.flatnonzero(split.to_numpy() == "train")[0])

    def spoil(x):
        x[2, 3] = value
        return x

    series(folder, index, spoil)
    assert f"sample_{index} (subject sub-{index:03d}" in train(capsys, folder)


def test_a_subject_and_session_twice(capsys, folder):
    with h5py.File(folder / "data_resampled.h5", "r+") as handle:
        handle["metadata/subjects"][1] = "sub-000"
    assert "subject sub-000 session 1 occurs twice" in train(capsys, folder)


def test_a_participant_twice(capsys, folder):
    path = folder / "participants.tsv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows, rows[1]]) + "\n")
    assert "subject sub-000 occurs twice" in train(capsys, folder)


def test_a_participant_that_is_missing(capsys, folder):
    path = folder / "participants.tsv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert "no row for subject sub-039" in train(capsys, folder)


def test_another_number_of_regions_than_the_models(capsys, folder):
    message = train(capsys, folder, "model.vq_model.num_rois=7")
    assert "has 12 regions, the model has 7" in message


def test_an_empty_split(capsys, folder):
    path = folder / "splits.tsv"
    path.write_text(path.read_text().replace("\tval", "\ttrain"))
    assert "the val split is empty" in train(capsys, folder)


def test_a_label_column_that_is_absent(capsys, folder, runs):
    words = ["train", "instruct", "-o", str(folder / "run"), "--init", str(runs["align"])]
    text = complaint(
        capsys, *words, *TINY_MODEL, f"data.dataset_dir=[{folder}]", "instruct.tasks=[ASD]"
    )
    assert "no label column 'ASD'" in text


def test_an_unknown_task(capsys, runs):
    assert "unknown task 'sexx'" in complaint(
        capsys, "evaluate", str(runs["instruct"]), "--tasks", "sexx"
    )


def test_a_run_that_does_not_exist(capsys, tmp_path):
    assert "nowhere" in complaint(capsys, "evaluate", str(tmp_path / "nowhere"))


def test_constant_regions_are_masked_and_counted(capsys, tmp_path):
    folder = make_cohort(tmp_path / "constant")
    for index in range(40):
        series(folder, index, lambda x: np.where(np.arange(12)[:, None] == 4, 1.0, x))
    words = ["train", "tokenizer", "-o", str(tmp_path / "run"), *TINY_MODEL]
    options = [f"data.dataset_dir=[{folder}]", "tokenizer.clip_weight=0", "train.epochs=1"]
    with pytest.raises(SystemExit) as ended:
        main([*words, *options])
    assert ended.value.code == 0
    assert "1 of 12 regions constant or absent in 28 of 28" in capsys.readouterr().out


def test_a_folder_of_another_kind_is_not_written_into(capsys, folder, runs):
    said = complaint(capsys, "simulate", str(runs["align"]), "--subjects", "12")
    assert "holds a run: give another folder for the cohort" in said
    words = ["train", "instruct", "-o", str(folder), "--init", str(runs["align"])]
    said = complaint(capsys, *words, f"data.dataset_dir=[{folder}]")
    assert "holds a cohort: give another folder for the run" in said


def test_a_file_of_options_without_any(capsys, folder, tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    said = train(capsys, folder, "-c", str(tmp_path / "empty.yaml"))
    assert "holds no option" in said


def test_no_descriptions_named_to_align_with(capsys, folder):
    assert "add data.desc_type=[fc]" in train(capsys, folder, "data.desc_type=[]")


def test_metadata_of_another_shape(capsys, folder):
    with h5py.File(folder / "data_resampled.h5", "r+") as handle:
        handle["metadata/censored"] = 3
    assert "metadata/censored has the shape ()" in train(capsys, folder)


def test_more_folds_than_people(capsys, folder):
    assert "40 subjects are too few for" in complaint(
        capsys, "folds", str(folder), "--count", "99999999999999999999999"
    )


def test_a_corpus_is_not_written_over_a_folder(capsys, folder, runs):
    words = ["corpus", "build", str(folder), "-o", str(folder), "--lm", str(runs["tokenizer"])]
    assert "is a folder: give the name of a file" in complaint(capsys, *words)


def test_a_log_that_lacks_the_epochs_of_the_checkpoint(capsys, runs, tmp_path):
    run = shutil.copytree(runs["instruct"], tmp_path / "run")
    (run / "log.jsonl").write_text("")
    words = ["train", "instruct", "-o", str(run), "--resume", "train.epochs=9"]
    assert "lacks epochs that the checkpoint has" in complaint(capsys, *words)


def test_a_descriptor_table_without_one_of_its_measures(capsys, folder, runs, tmp_path):
    path = next((folder / "descriptors_rewritten").glob("fc_descriptors.csv"))
    table = pd.read_csv(path)
    first = next(name for name in table if name.startswith("fc_"))
    table.drop(columns=first).to_csv(path, index=False)
    words = ["evaluate", str(runs["align"]), "-o", str(tmp_path / "out"), "--tasks", "describe"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--datasets", str(folder)])
    said = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2
    assert "Traceback" not in said
    assert f"has no column {first!r}" in said
