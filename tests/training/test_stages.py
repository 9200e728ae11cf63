import json

import numpy as np
import pytest
import torch

from fmrilm.cohort.cohort import Cohort
from fmrilm.config.schema import AlignConfig, TokenizerStageConfig, load_config
from fmrilm.errors import InputError
from fmrilm.lm.embedding.descriptions import TextAlignment
from fmrilm.lm.fmrilm import FMRILM
from fmrilm.run_record import read_lineage
from fmrilm.tasks import TASKS, build_prompt
from fmrilm.tokenizer.tokenizer import FMRITokenizer
from fmrilm.training.build import open_cohorts, train_stage
from fmrilm.training.data.collate import DescriptionCollator, Question, QuestionCollator
from fmrilm.training.data.dataset import ScanDataset
from fmrilm.training.data.features import ScanFeatures
from fmrilm.training.data.loaders import split_rows, training_texts
from fmrilm.training.data.questions import collect_questions, few_per_class
from fmrilm.training.stages.align import AlignObjective
from fmrilm.training.stages.instruct import InstructObjective
from fmrilm.training.stages.tokenizer import TokenizerObjective
from small import POINTS, ROIS, make_cohort


def fit(objective, batch, steps: int, lr: float = 3e-3) -> tuple[float, float]:
    """Return the loss before and after overfitting one batch."""
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=lr)
    torch.manual_seed(0)
    first = None
    for _ in range(steps):
        loss = objective(batch)["loss"]
        first = float(loss.detach()) if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return first, float(loss.detach())


def first_items(folder, count: int = 6) -> tuple[Cohort, ScanDataset, list]:
    cohort = Cohort(folder)
    rows = [(0, int(i)) for i in cohort.indices("train")[:count]]
    dataset = ScanDataset([cohort], rows, POINTS)
    return cohort, dataset, [dataset[i] for i in range(count)]


def test_stage_1_overfits_one_batch(tiny_options, cohort_folder):
    config = load_config(overrides=tiny_options)
    _, _, items = first_items(cohort_folder)
    torch.manual_seed(0)
    batch = {
        "fmri": torch.stack([item["fmri"] for item in items]),
        "roi_mask": torch.stack([item["roi_mask"] for item in items]),
        "description": torch.arange(6),
    }
    tokenizer = FMRITokenizer(config.model.vq_model)
    objective = TokenizerObjective(tokenizer, TokenizerStageConfig(), torch.randn(6, 24)).train()
    first, last = fit(objective, batch, 150)
    assert last < 0.5 * first
    losses = objective(batch)
    assert losses["rec_loss"] < 0.75 * batch["fmri"].var()
    assert losses["clip_loss"] < 1.0


def test_stage_2_overfits_one_batch(runs, cohort_folder):
    cohort, dataset, items = first_items(cohort_folder)
    model = FMRILM.from_pretrained(runs["align"] / "model")
    texts = cohort.descriptions(["fc"]).iloc[cohort.indices("train")[:6]].tolist()
    batch = DescriptionCollator(model.text, texts, 40)(items)
    scans = ScanFeatures(model, dataset)
    objective = AlignObjective(
        model, AlignConfig(text_only_weight=1.0, fmri_only_weight=0.0), scans
    ).train()
    first, last = fit(objective, batch, 120)
    assert last < 0.3 * first


def test_stage_3_overfits_one_batch(runs, cohort_folder):
    cohort, dataset, items = first_items(cohort_folder)
    model = FMRILM.from_pretrained(runs["align"] / "model")
    task = TASKS["sex"]
    labels = [task.class_index(cohort.labels("sex")[i]) for _, i in dataset.rows]
    batch = QuestionCollator(model.text, [Question(task, k) for k in labels], False)(items)
    objective = InstructObjective(model, ScanFeatures(model, dataset)).train()
    fit(objective, batch, 80)
    model.eval()
    scores = model.score(
        batch["fmri"], batch["roi_mask"], [build_prompt(task)] * 6, task.candidates
    )
    assert scores.argmax(1).tolist() == labels


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_every_alignment_parameter_moves(kind):
    torch.manual_seed(0)
    alignment = TextAlignment(8, 6, 4, kind)
    alignment(torch.randn(5, 8), torch.randn(5, 6)).backward()
    moved = {name for name, p in alignment.named_parameters() if p.grad is not None}
    expected = {name for name, _ in alignment.named_parameters()}
    assert moved == expected - ({"shift"} if kind == "clip" and "shift" not in moved else set())
    for name, parameter in alignment.named_parameters():
        if not (kind == "clip" and name == "shift"):  # a shift leaves softmax as it is
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_right_pairs_have_the_lower_loss(kind):
    torch.manual_seed(0)
    alignment = TextAlignment(6, 6, 6, kind)
    alignment.text_proj.load_state_dict(alignment.scan_proj.state_dict())
    x = torch.randn(5, 6)
    assert alignment(x, x) < alignment(x, x.roll(1, 0))


def test_the_same_description_twice_is_no_negative():
    torch.manual_seed(0)
    alignment = TextAlignment(6, 6, 6, "siglip")
    scans, text = torch.randn(2, 6), torch.randn(1, 6).repeat(2, 1)
    logits = alignment.similarity(scans, text)
    expected = -torch.nn.functional.logsigmoid(logits).sum(1).mean()
    torch.testing.assert_close(alignment(scans, text), expected)


def test_a_run_folder_says_where_it_comes_from(runs):
    lineage = json.loads((runs["instruct"] / "lineage.json").read_text())
    assert lineage["stage"] == "instruct"
    assert lineage["parent"] == "../align"  # a tree of runs can be moved
    assert read_lineage(runs["instruct"])["parent"] == str(runs["align"].resolve())
    assert lineage["cohorts"]["test"]["synthetic"]
    assert len(lineage["cohorts"]["test"]["fingerprint"]) == 16
    assert load_config([runs["instruct"] / "config.yaml"]).train.batch_size == 8


def test_a_stage_resumed_after_a_crash_is_the_uninterrupted_one(tmp_path, runs, tiny_options):
    """Cut a finished run back to its first epoch, as a crash in the second would leave it."""
    from fmrilm.training import trainer

    options = [*tiny_options, "train.epochs=3"]
    whole = train_stage("instruct", options, output=tmp_path / "whole", init=runs["align"])
    calls = {"n": 0}
    original = trainer.validate

    def crash(*args):
        calls["n"] += 1
        if calls["n"] == 2:
            raise KeyboardInterrupt
        return original(*args)

    trainer.validate = crash
    try:
        with pytest.raises(KeyboardInterrupt):
            train_stage("instruct", options, output=tmp_path / "parts", init=runs["align"])
    finally:
        trainer.validate = original
    parts = train_stage("instruct", [], output=tmp_path / "parts", resume=True)
    a = FMRILM.from_pretrained(whole / "model").state_dict()
    b = FMRILM.from_pretrained(parts / "model").state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_planted_effect_is_found_and_shuffled_labels_are_not(tmp_path, tiny_options):
    from sklearn.metrics import roc_auc_score

    from fmrilm.description.describe import describe

    aucs = {}
    for effect in (1.5, 0.0):
        folder = make_cohort(tmp_path / f"effect-{effect}", subjects=120, effect=effect)
        describe(folder, types="fc")
        options = [*tiny_options, f"data.dataset_dir=[{folder}]", "train.epochs=20"]
        options += ["instruct.use_random_prompt=false"]  # 84 scans cannot teach twenty wordings
        root = tmp_path / f"runs-{effect}"
        tok = train_stage("tokenizer", options, output=root / "tok")
        run = train_stage("instruct", options, output=root / "inst", init=tok)
        model, cohort, task = FMRILM.from_pretrained(run / "model"), Cohort(folder), TASKS["sex"]
        held_out = np.concatenate([cohort.indices("val"), cohort.indices("test")])
        fmri = torch.stack([torch.from_numpy(cohort.read(int(i))[0]) for i in held_out])
        scores = model.score(fmri, None, [build_prompt(task)] * len(fmri), task.candidates)
        labels = [task.class_index(cohort.labels("sex")[i]) for i in held_out]
        aucs[effect] = roc_auc_score(labels, scores.softmax(1)[:, 1])
    assert aucs[1.5] > 0.9
    assert aucs[0.0] < 0.8


def test_training_reads_nothing_of_the_test_split(tiny_options):
    config = load_config(overrides=tiny_options)
    cohorts = open_cohorts(config)
    with pytest.raises(ValueError, match="only by fmrilm"):
        split_rows(cohorts, "test")
    test = set(cohorts[0].indices("test").tolist())
    for split in ("train", "val"):
        assert not test & {i for _, i in collect_questions(config, cohorts, split)[0]}
    held_out = cohorts[0].descriptions(["fc"]).iloc[cohorts[0].indices("test")]
    assert not set(held_out) & set(training_texts(config, cohorts))


def test_scans_without_the_label_are_left_out_of_the_questions(tmp_path, tiny_options):
    folder = make_cohort(tmp_path / "gaps")
    table = (folder / "participants.tsv").read_text().splitlines()
    table[1:11] = [line.replace("\tM\t", "\tn/a\t") for line in table[1:11]]
    (folder / "participants.tsv").write_text("\n".join(table) + "\n")
    config = load_config(overrides=[*tiny_options, f"data.dataset_dir=[{folder}]"])
    cohorts = open_cohorts(config)
    rows, questions = collect_questions(config, cohorts, "train")
    known = cohorts[0].table.loc[[i for _, i in rows], "sex"]
    assert known.notna().all()
    assert len(rows) == len(questions) < len(cohorts[0].indices("train"))


def test_few_shot_is_balanced_and_seeded():
    known = [(i, int(i > 3)) for i in range(30)]
    few = few_per_class(known, 2, np.random.default_rng(0))
    assert sorted(k for _, k in few) == [0, 0, 1, 1]
    assert few == few_per_class(known, 2, np.random.default_rng(0))
    numbers = [(i, i) for i in range(30)]
    assert len(set(few_per_class(numbers, 4, np.random.default_rng(0), numbers=True))) == 4


def test_a_fact_that_gives_the_answer_away_is_refused(tiny_options, runs, tmp_path):
    options = [*tiny_options, "instruct.add_desc=[sex]"]
    with pytest.raises(InputError, match="reveals the answer"):
        train_stage("instruct", options, output=tmp_path / "x", init=runs["align"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model.vq_model.num_rois=7"], "12 regions, the model has 7"),
        (["model.vq_model.num_timestamp=40"], "fewer than num_timestamp 40"),
        (["instruct.tasks=[sexx]"], "did you mean 'sex'"),
        (["instruct.tasks=[AD]"], "no label column 'AD'"),
        (["instruct.fewshot_samples=0"], "evaluate RUN"),
        (["instruct.fewshot_samples=500"], "use fewer"),
        (["data.desc_type=[graph]"], "fmrilm describe"),
    ],
)
def test_wrong_input_stops_a_stage_in_one_sentence(tiny_options, runs, tmp_path, options, message):
    stage, parent = "instruct", runs["align"]
    if "vq_model" in options[0]:  # later stages inherit it
        stage, parent = "tokenizer", None
    if "desc_type" in options[0]:
        stage, parent = "align", runs["tokenizer"]
    with pytest.raises((InputError, FileNotFoundError), match=message):
        train_stage(stage, [*tiny_options, *options], output=tmp_path / "x", init=parent)


def test_a_stage_without_its_parent_says_which_flag_is_missing(tiny_options, tmp_path):
    for stage in ("align", "instruct"):
        with pytest.raises(InputError, match="--init"):
            train_stage(stage, tiny_options, output=tmp_path / "x")


def test_cached_features_are_those_of_the_model(runs, cohort_folder):
    _, dataset, items = first_items(cohort_folder)
    model = FMRILM.from_pretrained(runs["align"] / "model")
    batch = {
        "fmri": torch.stack([item["fmri"] for item in items]),
        "roi_mask": torch.ones(6, ROIS, dtype=torch.bool),
        "scan": torch.tensor([item["scan"] for item in items]),
    }
    cached, codes = ScanFeatures(model, dataset).of(batch)
    torch.testing.assert_close(cached, model.features(batch["fmri"], batch["roi_mask"]))
    assert torch.equal(codes, model.encode(batch["fmri"], batch["roi_mask"])[1])
