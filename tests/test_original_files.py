"""The original's YAML and DeepSpeed files, our table of its flags, and targets declared in YAML."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

import original_layout as original
from fmrilm.cli.compat import dataset_info, translate
from fmrilm.config.flags import read_flags
from fmrilm.config.schema import Config, TaskConfig, load_config, notes_on
from fmrilm.errors import InputError
from fmrilm.tasks import TASKS, declare
from fmrilm.tasks.declared import guess, task_of
from fmrilm.training.deepspeed import engine_settings, with_deepspeed
from fmrilm.training.options import value_of

TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in original.PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| `--")
]


@pytest.mark.parametrize(("flag", "key"), [row[:2] for row in TABLE], ids=lambda x: x.strip("`"))
def test_every_line_of_the_table_of_flags_is_true(flag, key):
    words, key = flag.strip("`").split(), key.strip("`")
    paths, pairs = read_flags(words)
    if key.startswith("--"):
        name = key.split()[0].removeprefix("--")
        assert paths == {name: words[1]}
        return
    (pair,) = pairs
    assert pair.partition("=")[0] == key
    if key == "data.dataset_dir":
        assert value_of(load_config(overrides=pairs), key) == words[1].split(",")
    elif len(words) == 2 and key != "train.deepspeed":
        value = value_of(load_config(overrides=pairs), key)
        assert str(value if not isinstance(value, list) else ",".join(value)) in (
            words[1], str(float(words[1])) if re.match(r"^[\d.]+$", words[1]) else None,
        )  # fmt: skip


def test_flags_of_its_scripts_that_are_no_keys():
    assert read_flags(["--zero_stage", "3"])[1] == ["train.deepspeed=configs/deepspeed_zero3.json"]
    assert read_flags(["--deepspeed", "--zero_stage", "3"])[1] == [
        "train.deepspeed=configs/deepspeed_zero3.json"
    ]
    assert read_flags(["--deepspeed"])[1] == ["train.deepspeed=configs/deepspeed_zero2.json"]
    assert read_flags(["--wandb_log"])[1] == ["train.tracker=wandb"]
    with pytest.raises(InputError, match="zero_stage 1"):
        read_flags(["--zero_stage", "1"])
    titok = load_config(overrides=read_flags(["--quantizer", "titok"])[1]).model.vq_model
    assert (titok.quantizer, titok.num_latent_tokens) == ("vq", 128)


def test_its_model_files_act(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "model:\n  vq_model: {in_chans: 1, drop_path_rate: 0.2, add_cls_token: true, "
        "gate_attention: headwise, qk_norm: true}\n  lm: {base_model: null}\n"
    )
    vq = load_config([path]).model.vq_model
    assert (vq.drop_path, vq.cls_token, vq.attention, vq.gate_attn) == (
        0.2,
        True,
        "full",
        "headwise",
    )
    path.write_text("model: {vq_model: {in_chans: 3}}")
    with pytest.raises(InputError, match="in_chans is 3"):
        load_config([path])


@pytest.mark.parametrize("indent", ["", "  "])
def test_its_titok_files_act(tmp_path, indent):
    keys = (
        "quantizer: vq", "codebook_size: 4096", "latent_token_size: 64", "num_latent_tokens: 32",
        "model_size: small", "use_l2_norm: true", "commitment_cost: 0.25", "patch_size: 16",
        "num_timestamp: 181",
    )  # fmt: skip
    path = tmp_path / "titok.yaml"
    path.write_text(("model:\n" if indent else "") + "".join(f"{indent}{key}\n" for key in keys))
    vq = load_config([path]).model.vq_model
    assert (vq.code_dim, vq.num_latent_tokens, vq.enc_cls) == (64, 32, "vit_small")
    assert (vq.code_distance, vq.beta, vq.num_timestamp) == ("cosine", 0.25, 176)
    assert "num_timestamp 181" in notes_on([path])[0]


def test_several_questions_in_one_conversation_for_the_cohorts_that_say_so(cohort_folder):
    from fmrilm.cohort.cohort import Cohort
    from fmrilm.training.data.questions import formats_of

    config = load_config(overrides=["datasets.test.is_multi=true"])
    assert formats_of(config, Cohort(cohort_folder)) == ["several"]
    assert formats_of(Config(), Cohort(cohort_folder)) == ["single"]


def deepspeed(tmp_path: Path, **blocks) -> Config:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2}, **blocks}))
    return load_config(overrides=[f"train.deepspeed={path}", "train.lr=0.0002"])


def test_its_deepspeed_blocks_become_options_of_training(tmp_path):
    auto = {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}
    config = deepspeed(tmp_path, optimizer={"type": "AdamW", "params": auto})
    assert with_deepspeed(config.train) == config.train
    config = deepspeed(
        tmp_path,
        optimizer={"type": "AdamW", "params": {"lr": 6e-4, "betas": [0.9, 0.99]}},
        scheduler={
            "type": "WarmupDecayLR",
            "params": {"warmup_num_steps": 7, "warmup_max_lr": "auto", "total_num_steps": "auto"},
        },
    )
    train = with_deepspeed(config.train)
    assert (train.lr, train.beta2, train.warmup_steps) == (6e-4, 0.99, 7)
    assert (train.schedule, train.min_lr) == ("linear", 0.0)
    assert not {"optimizer", "scheduler"} & set(engine_settings(Path(train.deepspeed)))
    with pytest.raises(InputError, match=r"0\.0002, .* says 0\.0006"):
        with_deepspeed(config.train, ["train.lr=0.0002"])
    with pytest.raises(InputError, match="AdamW only"):
        with_deepspeed(deepspeed(tmp_path, optimizer={"type": "Lion"}).train)
    with pytest.raises(InputError, match="there are: WarmupLR"):
        with_deepspeed(deepspeed(tmp_path, scheduler={"type": "OneCycle"}).train)


def test_schedules():
    from fmrilm.training.trainer import learning_rate_factor

    def at(step: int, *pairs: str) -> float:
        train = load_config(overrides=["train.lr=1.0", "train.min_lr=0", *pairs]).train
        return round(learning_rate_factor(step, 110, train), 6)

    linear = ("train.schedule=linear", "train.warmup_steps=10")
    assert [at(step, *linear) for step in (4, 10, 60, 110)] == [0.5, 1.0, 0.5, 0.0]
    assert at(100, "train.schedule=constant") == 1.0


PAGE_YAML = re.findall(r"```yaml\n(.*?)```", original.PAGE.read_text(encoding="utf-8"), re.S)


def test_the_cohort_of_the_page_is_declared_in_yaml_alone(tmp_path):
    (tmp_path / "mine.yaml").write_text(PAGE_YAML[0])
    config = load_config([tmp_path / "mine.yaml"])
    declare(config, replace=True)
    assert config.datasets["MyDataset"].targets == ["smoker", "severity", "pack_years"]
    smoker, severity, years = (TASKS[name] for name in config.datasets["MyDataset"].targets)
    assert (smoker.kind, smoker.candidates, smoker.class_index(1.0)) == (
        "binary",
        ["never", "smoker"],
        1,
    )
    assert (severity.kind, severity.column, severity.class_index(2)) == (
        "ordinal",
        "fagerstrom_enc",
        2,
    )
    assert "cigarettes_per_day" in severity.reveals
    assert (years.values[0], years.values[-1], len(years.values)) == (0.0, 60.0, 13)
    assert len(set(smoker.questions)) == len(smoker.questions) > 8
    for task in (smoker, severity, years):
        assert task.parse_statement(task.statement(1)) == 1


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"answers": {"0": "a", "1": "b"}}, "no question"),
        ({"question": "Q?"}, "two answers"),
        ({"question": "Q?", "answers": {"0": "a", "1": "A"}}, "the same"),
        ({"question": "Q?", "kind": "number"}, "range"),
    ],
)
def test_an_incomplete_declaration_is_refused(about, message):
    with pytest.raises(InputError, match=message):
        task_of("x", TaskConfig(**about))


def test_a_name_that_is_taken_is_refused():
    about = TaskConfig("Q?", answers={"0": "a", "1": "b"})
    with pytest.raises(InputError, match="another name"):
        declare(Config(tasks={"sex": about}))


def test_a_target_of_which_only_the_name_is_given_is_asked_with_its_labels():
    assert guess("target1", pd.Series([1.0, 0.0, None])).answers == {"0": "0", "1": "1"}
    with pytest.raises(InputError, match="declare its question"):
        guess("score", pd.Series(range(40)))


def test_dataset_info_is_read_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "dataset.py"
    path.write_text("raise SystemExit\nDATASET_INFO = {'MyDataset': 'A cohort of mine: yes.'}\n")
    assert dataset_info(path) == {"MyDataset": "A cohort of mine: yes."}
    words = translate("train_pretrain_paired", ["--epochs", "1"], tmp_path)
    config = load_config([words[words.index("--config") + 1]])
    assert config.datasets["MyDataset"].description == "A cohort of mine: yes."
    path.write_text("DATASET_INFO = {'a': open('x')}")
    with pytest.raises(InputError, match="no plain dict"):
        dataset_info(path)


@pytest.mark.parametrize(("size", "millions"), [("small", 46), ("base", 174), ("large", 610)])
def test_the_original_sizes_are_reached_with_a_decoder_as_deep_as_the_encoder(size, millions):
    from fmrilm.lm.embedding.descriptions import AlignmentHeads
    from fmrilm.tokenizer.saved import build_tokenizer

    config = load_config([original.ROOT / f"configs/vit_{size}_qwen_p160.yaml"])
    vq = config.model.vq_model
    with torch.device("meta"):
        tokenizer = build_tokenizer(vq)
        heads = AlignmentHeads(tokenizer, config.tokenizer, 1024)
    count = sum(p.numel() for part in (tokenizer, heads) for p in part.parameters())
    count += vq.codebook_size * vq.code_dim  # learned by averages, not by gradients
    assert count / 1e6 == pytest.approx(millions, abs=1)
    assert vq.decoder_depth == vq.size[1]
