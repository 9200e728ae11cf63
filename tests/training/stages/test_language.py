import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fmrilm.cohort.cohort import Cohort
from fmrilm.config.schema import AlignConfig, load_config
from fmrilm.description.describe import describe
from fmrilm.errors import InputError
from fmrilm.lm.fmrilm import FMRILM
from fmrilm.tasks import TASKS, build_prompt
from fmrilm.training.build import open_cohorts, train_stage
from fmrilm.training.data.collate import Conversation, DescriptionCollator, OpenReport, Question
from fmrilm.training.data.features import ScanFeatures
from fmrilm.training.data.loaders import LengthBuckets
from fmrilm.training.data.questions import balance, collect_questions
from fmrilm.training.merge import merge
from fmrilm.training.stages.align import AlignObjective
from small import make_cohort
from training.test_stages import first_items


def test_rarer_classes_are_shown_as_often_and_no_scan_is_lost():
    known = [(i, int(i >= 7)) for i in range(10)]
    shown = balance(known, np.random.default_rng(0))
    counts = np.bincount([k for _, k in shown])
    assert counts.tolist() == [7, 7]
    assert set(shown) == set(known)
    assert shown == balance(known, np.random.default_rng(0))


def test_texts_of_similar_length_come_together_and_none_is_lost():
    lengths = torch.randint(1, 500, (203,), generator=torch.Generator().manual_seed(0)).tolist()
    sampler = LengthBuckets(lengths, 8, 0)
    order = list(sampler)
    assert sorted(order) == list(range(203))
    batches = [order[i : i + 8] for i in range(0, 203, 8)]
    padded = sum(max(lengths[i] for i in b) * len(b) for b in batches)
    assert padded < 1.2 * sum(lengths)
    sampler.set_epoch(1)
    other = list(sampler)
    assert other != order
    sampler.set_epoch(0)
    assert list(sampler) == order


def test_the_formats_of_a_scan_are_one_question_a_conversation_and_a_report(tiny_options):
    options = [*tiny_options, "instruct.tasks=[sex,age]", "instruct.formats=[single,several,open]"]
    config = load_config(overrides=options)
    rows, asked = collect_questions(config, open_cohorts(config), "train")
    n = len({row for row in rows})
    kinds = [sum(isinstance(a, kind) for a in asked) for kind in (Question, Conversation)]
    assert kinds == [2 * n, n]
    report = next(a for a in asked if isinstance(a, OpenReport))
    _, [text] = report.talk(lambda count: 0)
    for task, index in zip(report.tasks, report.class_indices, strict=True):
        assert task.parse_statement(text) == index


def test_an_unknown_format_is_refused(tiny_options):
    with pytest.raises(InputError, match=r"instruct\.formats.*severl"):
        load_config(overrides=[*tiny_options, "instruct.formats=[severl]"])


def test_all_four_objectives_train_and_are_logged(tmp_path, tiny_options, runs):
    weights = ["text_only", "fmri_only", "fmri2text", "text2fmri"]
    options = [*tiny_options, *(f"align.{name}_weight=0.5" for name in weights), "train.epochs=1"]
    run = train_stage("align", options, output=tmp_path / "a", init=runs["tokenizer"])
    row = json.loads((run / "log.jsonl").read_text().splitlines()[0])
    assert row["loss"] == pytest.approx(0.5 * sum(row[f"{name}_loss"] for name in weights))
    model = FMRILM.from_pretrained(run / "model")
    assert torch.isfinite(model.generate_scan(["Typical connectivity."])).all()


def test_one_shared_pass_gives_the_loss_of_separate_passes(runs, cohort_folder):
    cohort, dataset, items = first_items(cohort_folder)
    model = FMRILM.from_pretrained(runs["align"] / "model")
    texts = cohort.descriptions(["fc"]).iloc[cohort.indices("train")[:6]].tolist()
    batch = DescriptionCollator(model.text, texts, 40)(items)
    scans = ScanFeatures(model, dataset)
    calls = []
    model.lm.base_model.register_forward_hook(lambda *_: calls.append(1))
    config = AlignConfig(text_only_weight=0.0, fmri_only_weight=1.0)
    losses = AlignObjective(model, config, scans)(batch)
    assert len(calls) == 1
    alone = AlignObjective(model, AlignConfig(text_only_weight=0.0, fmri_only_weight=0.0), scans)
    torch.testing.assert_close(losses["fmri2text_loss"], alone(batch)["fmri2text_loss"])


def test_a_second_adapter_is_trained_on_the_first_and_merged(tmp_path, tiny_options, runs):
    lora = [*tiny_options, "model.lm.peft_tune=true", "train.epochs=1"]
    align = train_stage("align", lora, output=tmp_path / "a", init=runs["tokenizer"])
    second = [*lora, "model.lm.freeze_pretrained_lora=true"]
    inst = train_stage("instruct", second, output=tmp_path / "i", init=align)
    first = FMRILM.from_pretrained(align / "model").lm.state_dict()
    model = FMRILM.from_pretrained(inst / "model")
    state = model.lm.state_dict()
    assert all(torch.equal(first[name], state[name]) for name in first)
    assert any("instruction_lora" in n and "lora_B" in n and v.abs().sum() > 0
               for n, v in state.items())  # fmt: skip
    merged = FMRILM.from_pretrained(merge(inst, output=tmp_path / "m") / "model")
    prompts = [build_prompt(TASKS["sex"])] * 2
    fmri = torch.randn(2, 12, 20)
    torch.testing.assert_close(
        merged.score(fmri, None, prompts, ["Male", "Female"]),
        model.score(fmri, None, prompts, ["Male", "Female"]),
        atol=1e-4,
        rtol=1e-4,
    )
    with pytest.raises(InputError, match="exists"):
        merge(inst, output=tmp_path / "m")


@pytest.mark.parametrize(("task", "outputs"), [("sex", 2), ("age", 1)])
def test_a_head_learns_classes_and_values(tmp_path, tiny_options, runs, task, outputs):
    folder = make_cohort(tmp_path / "c", effect=3.0)
    if task == "age":  # the planted effect becomes one of age
        table = (folder / "participants.tsv").read_text().splitlines()
        cells = [line.split("\t") for line in table[1:]]
        ages = [{"M": "30", "F": "70"}[c[1]] for c in cells]
        rows = ["\t".join([c[0], c[1], a, *c[3:]]) for c, a in zip(cells, ages, strict=True)]
        (folder / "participants.tsv").write_text("\n".join([table[0], *rows]) + "\n")
    describe(folder, types="fc")
    options = [*tiny_options, f"data.dataset_dir=[{folder}]", f"instruct.tasks=[{task}]"]
    options += ["model.lm.use_cls_head=true", f"model.lm.num_classes={outputs}"]
    run = train_stage(
        "instruct", [*options, "train.epochs=15"], output=tmp_path / "r", init=runs["tokenizer"]
    )
    model, cohort = FMRILM.from_pretrained(run / "model"), Cohort(folder)
    scans = cohort.indices("train")
    fmri = torch.stack([torch.from_numpy(cohort.read(int(i))[0]) for i in scans])
    output = model.classify(fmri, None, [build_prompt(TASKS[task])] * len(fmri))
    is_female = [cohort.labels("sex")[i] == "F" for i in scans]
    assert roc_auc_score(is_female, output[:, -1]) > 0.85
    if outputs == 1:  # in years
        assert 30 < float(output.mean()) < 70


def test_a_head_too_small_for_its_task_is_refused(tmp_path, tiny_options, runs):
    options = [*tiny_options, "model.lm.use_cls_head=true", "model.lm.num_classes=1"]
    with pytest.raises(InputError, match="num_classes is 1, but a task has 2 answers"):
        train_stage("instruct", options, output=tmp_path / "r", init=runs["align"])


@pytest.mark.parametrize("kind", ["int64", "float64", "float32", "object"])
def test_training_and_evaluation_tell_the_model_the_same_facts(tmp_path, kind):
    import pandas as pd

    from fmrilm.cohort.cohort import Cohort
    from fmrilm.evaluation.questions import prompts_for, select
    from fmrilm.tasks import TASKS

    folder = make_cohort(tmp_path / "cohort", subjects=20)
    path = folder / "participants.tsv"
    table = pd.read_csv(path, sep="\t")
    table["iq"] = [100.5, *range(90, 109)]  # a column of floats beside one of whole numbers
    table["hand"] = "right"
    table.loc[3, "iq"] = None
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    cohort = Cohort(folder)
    cohort.table["age"] = cohort.table["age"].astype(kind)
    columns = "instruct.add_desc=[age,iq,hand]"
    config = load_config(overrides=["instruct.tasks=[sex]", columns])
    rows, asked = collect_questions(config, [cohort], "train")
    trained = [one.talk(lambda count: 0)[0][0] for one in asked]
    question = select(cohort, TASKS["sex"], "train")
    assert [index for _, index in rows] == question.rows.tolist()
    assert prompts_for(question, config) == trained
    assert not any(".0" in prompt for prompt in trained)
