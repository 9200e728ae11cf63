"""What is said of a scan is what `evaluate` says of it, however the scan is given."""

import dataclasses
import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from asking_helpers import image
from fmrilm.asking.pipeline import NOT_SURE, FMRIPipeline
from fmrilm.cli import main
from fmrilm.cohort.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.processing.processor import FMRIProcessor


@pytest.fixture(scope="module")
def pipeline(place):
    return FMRIPipeline(place / "run")


def values(reply):
    return {a.task: a.probabilities or a.value for a in reply.answers}


def test_the_answers_are_those_of_evaluate(place, pipeline):
    cohort = Cohort(place / "cohort")
    table = pd.read_csv(place / "run/evaluation/predictions.csv")
    table = table[table["task"] == "sex"]
    assert len(table) > 2
    for _, row in table.iterrows():
        pairs = list(zip(cohort.store.subjects, cohort.store.sessions, strict=True))
        index = pairs.index((row["subject_id"], row["session_id"]))
        reply = pipeline((cohort, index), "sex")
        fmri, mask = pipeline.processor(pipeline.processor.sample(cohort, index)).values()
        prompt = pipeline.prompt(pipeline.processor.sample(cohort, index), pipeline.tasks()[0])
        (scores,) = pipeline.model.ask(fmri, mask, [(prompt, ["Male", "Female"])])
        assert scores[0].softmax(-1)[1].item() == pytest.approx(row["p_Female"], abs=1e-6)
        assert set(reply.answers[0].probabilities) == {"Male", "Female"}


def test_an_image_is_answered_as_the_cohort_made_of_it(place, pipeline):
    cohort = Cohort(place / "cohort")
    for subject in ("sub-03", "sub-07"):
        from_image = values(pipeline(image(place, subject)))
        from_cohort = values(pipeline((cohort, cohort.store.subjects.index(subject))))
        assert from_image["sex"] == pytest.approx(from_cohort["sex"], abs=1e-6)
        assert from_image["age"] == pytest.approx(from_cohort["age"], abs=1e-4)


def test_ready_series_are_answered_too(place, pipeline):
    cohort = Cohort(place / "cohort")
    series, _ = cohort.store.read(4)
    told = values(pipeline(series, "sex"))
    assert told["sex"] == pytest.approx(values(pipeline((cohort, 4), "sex"))["sex"], abs=1e-6)


def test_beside_an_answer_stands_what_it_is_worth_and_how_unusual_the_scan_is(place, pipeline):
    reply = pipeline(image(place, "sub-03"))
    assert [a.task for a in reply.answers] == ["sex", "age"]
    assert "held-out" in reply.answers[0].worth
    assert not reply.drift.is_unlike
    assert "regressed" in reply.notes[0]
    series, _ = Cohort(place / "cohort").store.read(4)
    shuffled = pipeline(np.random.default_rng(0).permutation(series))
    assert shuffled.drift.is_unlike
    assert "which regions go together" in shuffled.drift.text


def test_an_answer_that_is_not_probable_enough_is_not_given(place):
    path = place / "run/evaluation/metrics.json"
    kept = path.read_text()
    content = json.loads(kept)
    for result in content["results"]:
        calibration = result["scrutiny"].setdefault("calibration", {})
        calibration |= {"temperature": 2.0, "abstention": {"threshold": 0.999}}
    path.write_text(json.dumps(content))
    try:
        unsure = FMRIPipeline(place / "run")(image(place, "sub-03"), "sex").answers[0]
    finally:
        path.write_text(kept)
    sure = FMRIPipeline(place / "run")(image(place, "sub-03"), "sex").answers[0]
    assert unsure.text == NOT_SURE
    assert max(unsure.probabilities.values()) <= max(sure.probabilities.values())


def test_what_is_told_of_one_person_is_not_told_of_the_next(place, pipeline):
    """A run that is told facts: those of the scan that is asked about, and of a file none."""
    config = pipeline.run.config
    instruct = dataclasses.replace(config.instruct, add_desc=["site"])
    run = dataclasses.replace(pipeline.run, config=dataclasses.replace(config, instruct=instruct))
    telling = FMRIPipeline(run)
    cohort = Cohort(place / "cohort")
    first, second = telling.processor.sample(cohort, 0), telling.processor.sample(cohort, 1)
    task = telling.tasks()[0]
    for scan, row in ((first, 0), (second, 1)):
        site = cohort.table.iloc[row]["site"]
        assert f"site: {site}" in telling.prompt(scan, task)
    assert "site" not in telling.prompt(telling.processor.read(image(place, "sub-03")), task)


def test_a_free_question_is_answered_and_marked_as_never_evaluated(place, pipeline):
    pieces = []
    answer = pipeline(image(place, "sub-03"), "What stands out?", pieces.append).answers[0]
    assert answer.task is None
    assert "never evaluated" in answer.worth
    assert "".join(pieces).strip() == answer.text


def test_a_scan_is_described_from_its_own_measures(place, pipeline):
    """The text is true of the scan, and the one that `describe` has for the cohort's scan."""
    cohort = Cohort(place / "cohort")
    row = cohort.store.subjects.index("sub-03")
    of_image = pipeline.processor.describe(pipeline.processor.read(image(place, "sub-03")))
    assert of_image.check(of_image.text)
    assert {claim.verdict for claim in of_image.check(of_image.text)} == {"supported"}
    assert pipeline(image(place, "sub-03")).description == of_image.text
    table = pd.read_csv(place / "cohort/descriptors_rewritten/fc_descriptors.csv")
    told = table.set_index("subject_id").loc["sub-03"]
    assert of_image.measures["fc_within"] == pytest.approx(told["fc_within"], abs=1e-5)
    assert of_image.measures["fc_within_z"] == pytest.approx(told["fc_within_z"], abs=1e-3)
    other = pipeline.processor.describe(pipeline.processor.sample(cohort, (row + 1) % 40))
    assert {"contradicted"} <= {claim.verdict for claim in other.check(of_image.text)}


def test_claims_of_a_free_answer_are_checked_against_the_scan(place, monkeypatch):
    pipeline = FMRIPipeline(place / "run")
    text = pipeline.processor.describe(pipeline.processor.read(image(place, "sub-03"))).text
    first = text.split(". ")[0] + "."
    wrong = "Mean within-network connectivity is markedly higher (z = 9.00)."
    for said, verdict in ((first, "supported"), (wrong, "contradicted")):
        monkeypatch.setattr(pipeline.model, "generate", lambda *_, said=said, **__: [said])
        (answer,) = pipeline(image(place, "sub-03"), "What stands out?").answers
        assert verdict in {claim.verdict for claim in answer.claims}
    assert "contradicted" in json.dumps(pipeline(image(place, "sub-03"), "Why?").to_dict())


def test_generate_takes_what_the_processor_makes(place, pipeline):
    processor = FMRIProcessor.from_pretrained(place / "run")
    scan = processor.read(image(place, "sub-03"))
    inputs = processor(images=[scan, scan], text=["What is the sex?", "How old?"])
    ids = pipeline.model.generate(**inputs, max_new_tokens=6)
    from fmrilm.lm.text import with_scan

    prompts = [with_scan("What is the sex?"), with_scan("How old?")]
    texts = pipeline.model.generate(inputs["fmri"], inputs["roi_mask"], prompts, 6)
    assert processor.batch_decode(ids) == texts
    with pytest.raises(InputError, match="give one"):
        pipeline.model.generate(**inputs, prompts=prompts)


def test_a_model_folder_alone_on_another_path_reads_scans_alike(place, pipeline, tmp_path):
    folder = shutil.copytree(place / "run/model", tmp_path / "elsewhere")
    processor = FMRIProcessor.from_pretrained(folder)
    here, there = processor.read(image(place, "sub-05")), pipeline.processor.read(
        image(place, "sub-05")
    )  # fmt: skip
    np.testing.assert_array_equal(here.fmri, there.fmri)
    assert processor.unlike(here) == pipeline.processor.unlike(there)


def test_the_command_line_prints_and_writes_json(place, capsys, monkeypatch):
    for words in ([str(image(place, "sub-03"))], [f"{place}/cohort:sub-03"]):
        with pytest.raises(SystemExit) as ended:
            main(["ask", str(place / "run"), *words])
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert "worth:" in said
        assert "%" in said
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{place}/cohort:sub-03\n{place}/cohort:sub-04\n"))
    with pytest.raises(SystemExit):
        main(["ask", str(place / "run"), "-", "--json", "--question", "sex"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["scan"].split()[0] for line in lines} == {"sub-03", "sub-04"}
    assert lines[0]["answers"][0]["task"] == "sex"


@pytest.mark.parametrize(("word", "said"), [
    ("missing.nii.gz", "not found: give a scan file"),
    ("COHORT:nobody", "has no subject 'nobody'"),
    ("short.csv", "too short"),
    ("other.csv", "24 regions"),
])  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(place, capsys, tmp_path, word, said):
    rng = np.random.default_rng(0)
    np.savetxt(tmp_path / "short.csv", rng.standard_normal((20, 24)), delimiter=",")
    np.savetxt(tmp_path / "other.csv", rng.standard_normal((60, 10)), delimiter=",")
    word = word.replace("COHORT", f"{place}/cohort")
    word = str(tmp_path / word) if word.endswith(".csv") else word
    with pytest.raises(SystemExit) as ended:
        main(["ask", str(place / "run"), word])
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())
