"""The page, `fmrilm ask`, Python and `fmrilm evaluate` say the same about the same scan."""

import ast
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from serving import ask, choose, events_of, upload

import fmrilm
from asking_helpers import image
from fmrilm.asking.worth import read_worth
from fmrilm.cli import main
from fmrilm.cohort.cohort import Cohort
from fmrilm.config.schema import SCAN_MARK


def by_task(answers):
    return {a["task"]: a["probabilities"] or a["value"] for a in answers}


def test_web_ask_python_and_evaluate_are_equal(place, pipeline, client, capsys):
    cohort = Cohort(place / "cohort")
    table = pd.read_csv(place / "run/evaluation/predictions.csv")
    table = table[table["task"] == "sex"]
    pairs = list(zip(cohort.store.subjects, cohort.store.sessions, strict=True))
    sex = next(task for task in pipeline.tasks() if task.name == "sex")
    worth = read_worth(place / "run", sex, cohort.name)
    assert len(table) > 2
    for _, line in table.head(4).iterrows():
        row = pairs.index((line["subject_id"], line["session_id"]))
        on_page = by_task(ask(client, choose(client, row)["id"]))
        in_python = {a.task: a.probabilities or a.value for a in pipeline((cohort, row)).answers}
        with pytest.raises(SystemExit):
            main(["ask", str(place / "run"), f"{place}/cohort:{line['subject_id']}", "--json"])
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        evaluated = worth.calibrate(np.array([1 - line["p_Female"], line["p_Female"]]))
        for told in (in_python, by_task(said["answers"])):
            assert told["sex"] == pytest.approx(on_page["sex"], abs=1e-6)
            assert told["age"] == pytest.approx(on_page["age"], abs=1e-6)
        assert on_page["sex"]["Female"] == pytest.approx(evaluated[1], abs=1e-6)


def test_an_uploaded_image_with_its_confounds_is_answered_as_the_file_is(place, pipeline, client):
    scan = image(place, "sub-03")
    confounds = next(scan.parent.glob("*confounds_timeseries.tsv"))
    sidecar = scan.with_name(scan.name.replace(".nii.gz", ".json"))
    files = [path for path in (scan, confounds, sidecar) if path.is_file()]
    last = events_of(client, upload(client, *files))[-1]
    assert last["type"] == "done", last
    assert "regressed" in last["scan"]["notes"][0]
    on_page = by_task(ask(client, last["scan"]["id"]))
    in_python = {a.task: a.probabilities or a.value for a in pipeline(scan).answers}
    assert on_page["sex"] == pytest.approx(in_python["sex"], abs=1e-6)
    assert on_page["age"] == pytest.approx(in_python["age"], abs=1e-6)


@pytest.mark.parametrize("ending", [".npy", ".csv", ".tsv", ".mat"])
def test_every_format_of_ready_series_is_answered_alike(place, pipeline, client, tmp_path, ending):
    from scipy.io import savemat

    series = np.random.default_rng(1).standard_normal((24, 60)).astype(np.float32)
    path = tmp_path / f"series{ending}"
    if ending == ".npy":
        np.save(path, series)
    elif ending == ".mat":
        savemat(path, {"series": series}, do_compression=True)
    else:
        np.savetxt(path, series.T, delimiter="\t" if ending == ".tsv" else ",")
    last = events_of(client, upload(client, path))[-1]
    assert last["type"] == "done", last
    expected = pipeline(path, "sex").answers[0].probabilities
    (answer,) = ask(client, last["scan"]["id"], "sex")
    assert answer["probabilities"] == pytest.approx(expected, abs=1e-6)


def test_parcellated_cifti_is_answered_alike(pipeline, client, tmp_path):
    from nibabel import cifti2

    atlas = pipeline.processor.atlas
    series = np.random.default_rng(1).standard_normal((24, 200)).astype(np.float32)
    places = cifti2.BrainModelAxis.from_surface(np.arange(48), 48, "CortexLeft")
    parcels = cifti2.ParcelsAxis.from_brain_models(
        [(name, places[2 * i : 2 * i + 2]) for i, name in enumerate(atlas.names)]
    )
    path = tmp_path / "sub-01_x.ptseries.nii"
    time = cifti2.SeriesAxis(0, 0.8, series.shape[1])
    cifti2.Cifti2Image(series.T, (time, parcels)).to_filename(path)
    last = events_of(client, upload(client, path))[-1]
    assert last["type"] == "done", last
    expected = pipeline(path, "sex").answers[0].probabilities
    (answer,) = ask(client, last["scan"]["id"], "sex")
    assert answer["probabilities"] == pytest.approx(expected, abs=1e-6)


def test_the_room_scores_nothing_itself():
    rooms = set()
    for path in (Path(fmrilm.__file__).parent / "web").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                rooms.add(node.module)
    assert "fmrilm.asking.pipeline" in rooms
    for room in ("evaluation", "lm", "stats", "tokenizer", "training"):
        assert not [name for name in rooms if name.startswith(f"fmrilm.{room}")]


def test_a_question_cannot_take_the_place_of_the_scan(client):
    scan = choose(client, 3)["id"]
    body = {"question": f"{SCAN_MARK} and {SCAN_MARK}: what is it?"}
    last = events_of(client, client.post(f"/api/scans/{scan}/questions", json=body))[-1]
    assert last["type"] == "failed"
    assert "fault of fmrilm" not in last["detail"]


def test_a_free_question_is_streamed_and_marked_as_never_evaluated(client):
    scan = choose(client, 3)["id"]
    started = client.post(f"/api/scans/{scan}/questions", json={"question": "What stands out?"})
    events = events_of(client, started)
    pieces = "".join(event["piece"] for event in events if event["type"] == "text")
    (answer,) = [event["answer"] for event in events if event["type"] == "answer"]
    assert pieces.strip() == answer["text"]
    assert "never evaluated" in answer["worth"]


def test_the_drift_of_a_strange_scan_is_told(place, client, tmp_path):
    series, _ = Cohort(place / "cohort").store.read(4)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).permutation(series))
    scan = events_of(client, upload(client, tmp_path / "x.npy"))[-1]["scan"]
    assert scan["drift"]["is_unlike"]
    assert any((respect["ratio"] or 2) > 1 for respect in scan["drift"]["respects"])
