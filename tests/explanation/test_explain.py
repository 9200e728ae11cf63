import json

import numpy as np
import pandas as pd
import pytest

from fmrilm.errors import InputError
from fmrilm.explanation.explain import explain
from small import ROIS


def test_a_real_run_is_explained_in_table_picture_and_json(runs, cohort_folder, tmp_path, capsys):
    table = explain(str(runs["instruct"]), samples=12, steps=12, output=str(tmp_path))
    assert sorted(table["label"].astype(int)) == list(range(ROIS))
    assert table["contrast"].is_monotonic_decreasing
    networks = pd.read_csv(tmp_path / "networks.tsv", sep="\t")
    assert networks["share"].sum() == pytest.approx(1)
    assert networks["regions"].sum() == ROIS
    facts = json.loads((tmp_path / "attribution.json").read_text())
    assert facts["synthetic"] is True
    assert facts["completeness_error"] < 0.1  # the shares add up to the change in log-odds
    assert -1 <= facts["randomised_correlation"] <= 1
    assert (tmp_path / "attribution.png").read_bytes()[:4] == b"\x89PNG"
    readings = (cohort_folder / "test_readings.jsonl").read_text().splitlines()
    assert json.loads(readings[-1])["tasks"] == ["sex"]
    assert "shuffled weights" in capsys.readouterr().out


def test_the_map_is_written_into_the_voxels_of_the_atlas(runs, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    labels = np.zeros((3, 3, 5), dtype=np.int16)
    labels[0, 0, :] = [1, 2, 3, 0, 11]
    path = tmp_path / "atlas.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), path)
    options = {"samples": 4, "steps": 2, "split": "train", "output": str(tmp_path)}
    table = explain(str(runs["instruct"]), labels_img=str(path), **options)
    found = np.asarray(nibabel.load(tmp_path / "attribution.nii.gz").dataobj)
    by_label = table.set_index(table["label"].astype(int))["contrast"]
    assert found[0, 0, 1] == pytest.approx(by_label[2], rel=1e-5)
    assert (found[labels == 0] == 0).all()
    nibabel.save(nibabel.Nifti1Image(labels * 0, np.eye(4)), path)
    with pytest.raises(InputError, match="none of the atlas' region labels"):
        explain(str(runs["instruct"]), labels_img=str(path), **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"answer": "Femal"}, "did you mean 'Female'"),
        ({"task": "stimulus"}, "no label column 'stimulus'"),
    ],
)
def test_wrong_options_are_one_sentence(runs, options, sentence):
    with pytest.raises(InputError, match=sentence):
        explain(str(runs["instruct"]), **options)
