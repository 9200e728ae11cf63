"""Whatever is given to a stage acts, or is refused, or is said to be of no use to it."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from fmrilm.cohort.scaling import Scaler
from fmrilm.config.flags import FLAGS, read_flags
from fmrilm.config.schema import Config, load_config
from fmrilm.errors import InputError
from fmrilm.lm.adapters import ARCHITECTURE, TINY
from fmrilm.run_record import read_lineage
from fmrilm.training.build import train_stage
from fmrilm.training.distributed import choose_precision
from fmrilm.training.options import (
    LORA,
    check_settled,
    idle_reason,
    inherited,
    keys_of,
    per_process,
    settle,
    settled_keys,
    value_of,
)

KEYS = list(keys_of(Config()))
# Another value than the one in place, where no rule finds one.
OTHER = {
    "model.vq_model.patch_size": "5",
    "model.vq_model.num_timestamp": "40",
    "model.vq_model.enc_cls": "vit_small",
    "model.vq_model.n_embd": "32",
    "model.vq_model.n_head": "4",
    "model.vq_model.attn_mode": "normal",
    "model.vq_model.gate_attn": "headwise",
    "model.vq_model.recompute": "all",
    "model.vq_model.roi_embed": "coords",
    "model.vq_model.quantizer": "fsq",
    "model.vq_model.fsq_levels": "[4,4]",
    "model.vq_model.num_latent_tokens": "4",
    "model.lm.base_model": "smollm2",
    "model.lm.fmri_input": "quantized",
    "model.lm.activations": "half",
    "model.lm.num_fmri_tokens": "24",
    "model.lm.num_rois": "12",
    "model.lm.fmri_vocab_size": "32",
    "data.norm": "standard_roi",
    "data.length": "pad",
    "train.global_batch_size": "64",
    "train.mixed_precision": "bf16",
    "train.parallel": "fsdp",
    "train.tracker": "tensorboard",
    "train.min_lr": "1e-6",
    "train.schedule": "linear",
    "train.warmup_steps": "3",
    "tokenizer.rec_loss": "smooth_l1",
    "tokenizer.clip_loss_type": "clip",
    "tokenizer.pooling": "cls",
    "tokenizer.text_tower": "ngrams",
    "tokenizer.text_pooling": "last",
    "instruct.formats": "[several]",
}


def other(key: str, now) -> str:
    if key in OTHER:
        return OTHER[key]
    if isinstance(now, bool):
        return str(not now).lower()
    if isinstance(now, int):
        return str(now + 1)
    if isinstance(now, float):
        return str(now / 2 if now else 0.5)
    if isinstance(now, list):
        return "[another]"
    fields = {"n_layer": "3", "dec_layer": "3", "fewshot_samples": "2"}
    if key.endswith("lora_target_modules"):
        return "[q_proj]"
    return fields.get(key.rpartition(".")[2], "another")


def put(config, key: str, value):
    """Return a configuration in which one option is another."""
    name, _, rest = key.partition(".")
    inner = put(getattr(config, name), rest, value) if rest else value
    return dataclasses.replace(config, **{name: inner})


# What acts, by stage and what it starts from; the tokenizer is settled where there is a parent.
LM = {key for key in KEYS if key.startswith("model.lm.")}
BUILT = {f"model.lm.{name}" for name in ARCHITECTURE}
IDLE = {  # in the test's configuration, whatever the stage
    *(f"model.vq_model.{name}" for name in ("attn_mode", "fsq_levels", "num_quantizers")),
    *(f"model.lm.{name}" for name in (*LORA, "num_classes")),
    *("align.mask_ratio", "instruct.use_allowed_tokens", "train.tracker_run"),
}
READS = {f"model.lm.{n}" for n in ("base_model", *TINY, "num_fmri_tokens", "num_rois")}
READS |= {"model.lm.fmri_vocab_size"}
TINY_KEYS = {f"model.lm.{name}" for name in TINY}
ACTING_LM = {
    ("tokenizer", None): READS,
    ("tokenizer", "tokenizer"): READS,
    ("align", "tokenizer"): LM - TINY_KEYS,
    ("instruct", "tokenizer"): LM - TINY_KEYS,
    ("instruct", "align"): LM - BUILT,
}


@pytest.mark.parametrize(("stage", "parent"), ACTING_LM)
def test_every_option_acts_or_is_refused_or_is_named_in_every_stage(
    runs, tiny_options, stage, parent
):
    folder = None if parent is None else runs[parent]
    config, _ = settle(stage, [], tiny_options, folder)
    base = Config() if folder is None else inherited(stage, folder)
    refused = set() if folder is None else set(settled_keys(stage, folder, base, config))
    acting = ACTING_LM[stage, parent] | {key for key in KEYS if key.startswith(("data.", "train."))}
    acting |= {key for key in KEYS if key.startswith(f"{stage}.")} | {"instruct.tasks"}
    acting |= {key for key in KEYS if key.startswith("model.vq_model.") and parent is None}
    if parent == "align":
        acting.remove("data.desc_type")
    for key in KEYS:
        changed = put(config, key, yaml.safe_load(other(key, value_of(config, key))))
        named = idle_reason(stage, config, key, parent == "align")
        if key in refused:
            assert key not in acting, key
            with pytest.raises(InputError, match="was trained with") as error:
                check_settled(changed, config, [key], "the run")
            assert "\n" not in str(error.value)
        elif key in acting - IDLE:
            assert not named, key
        else:
            assert named, key


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_every_flag_is_read_into_its_key(flag):
    key = FLAGS[flag]
    now = value_of(Config(), key)
    value = other(key, now).strip("[]")
    _, pairs = read_flags([f"--{flag}", value])
    config = load_config(overrides=pairs)
    found = value_of(config, key)
    assert found != now
    assert str(found[0] if isinstance(found, list) else found).lower() == str(
        type(found)(value) if isinstance(found, float) else value
    )


@pytest.mark.parametrize(
    ("stage", "parent", "flags"),
    [
        ("align", "tokenizer", ["--quantizer", "fsq"]),
        ("instruct", "align", ["--lm_name", "gpt2"]),
        ("instruct", "align", ["model.lm.tiny_width=64"]),
        ("align", "tokenizer", ["model.lm.tiny_depth=3"]),
        ("tokenizer", "tokenizer", ["model.vq_model.codebook_size=64"]),
    ],
)
def test_a_stage_refuses_what_its_parent_was_not_built_with_naming_both_values(
    runs, tiny_options, tmp_path, stage, parent, flags
):
    with pytest.raises(InputError, match="was trained with") as error:
        train_stage(stage, [*tiny_options, *flags], output=tmp_path / "run", init=runs[parent])
    assert flags[-1].rpartition("=")[2] in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_stage_inherits_what_its_parent_was_built_with_and_writes_it_down(
    runs, cohort_folder, tmp_path
):
    options = [f"data.dataset_dir=[{cohort_folder}]", "train.epochs=1", "instruct.tasks=[sex]"]
    run = train_stage("instruct", options, output=tmp_path / "run", init=runs["align"])
    written, parent = (load_config([f / "config.yaml"]).model for f in (run, runs["align"]))
    assert written.vq_model == parent.vq_model
    assert written.lm == parent.lm
    assert written.lm.base_model == "tiny"
    held = json.loads((run / "model" / "config.json").read_text())
    assert held["vq_model"] == dataclasses.asdict(written.vq_model)
    assert held["lm"] == dataclasses.asdict(written.lm)


def test_precision_is_what_the_launch_says_and_contradictions_are_refused(monkeypatch):
    assert choose_precision(None) == "no"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert choose_precision(None) == choose_precision("auto") == choose_precision("bf16") == "bf16"
    for asked in ("no", "fp16"):
        with pytest.raises(InputError, match=f"'{asked}'.*'bf16'"):
            choose_precision(asked)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(InputError, match="fp8"):
        choose_precision(None)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # as accelerate launch always sets
    assert choose_precision("bf16") == "bf16"


def test_precision_of_the_launch_is_written_down_and_changes_the_losses(
    runs, tiny_options, tmp_path, monkeypatch
):
    losses = {}
    for precision in ("no", "bf16"):
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
        monkeypatch.setattr("accelerate.state.AcceleratorState._shared_state", {})
        options = [*tiny_options, "train.epochs=1", "instruct.tasks=[sex]"]
        run = train_stage("instruct", options, output=tmp_path / precision, init=runs["align"])
        assert load_config([run / "config.yaml"]).train.mixed_precision == precision
        rows = (run / "log.jsonl").read_text().splitlines()
        losses[precision] = json.loads(rows[0])["loss"]
    assert losses["no"] != losses["bf16"]
    assert losses["no"] == pytest.approx(losses["bf16"], rel=0.1)


def test_the_global_batch_is_shared_by_steps_and_processes(monkeypatch):
    assert per_process(64, 8, 1) == 8
    assert per_process(64, 2, 4) == 8
    with pytest.raises(InputError, match="use a multiple of 24"):
        per_process(64, 8, 3)
    words = ["--global_fmri_batch_size", "64", "--gradient_accumulation_steps", "4"]
    for processes, size in ((1, 16), (2, 8)):
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        config, _ = settle("tokenizer", [], read_flags(words)[1])
        assert config.train.batch_size == size
    with pytest.raises(InputError, match="give one of them"):
        settle("tokenizer", [], [*read_flags(words)[1], "train.batch_size=3"])


def test_accumulation_given_to_the_launcher_alone_is_refused(monkeypatch):
    from fmrilm.training.distributed import check_start

    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(InputError, match="gradient_accumulation_steps is 1"):
        check_start(Config().train)
    check_start(dataclasses.replace(Config().train, gradient_accumulation_steps=4))


def test_a_resumed_run_keeps_its_options_and_refuses_others(runs):
    run = runs["align"]
    config, _ = settle("align", [], ["train.epochs=9"], runs["tokenizer"], run)
    before = load_config([run / "config.yaml"])
    assert config.model == before.model
    assert (config.train.epochs, before.train.epochs) == (9, 2)
    with pytest.raises(InputError, match=r"summary_tokens is 7, but the run to resume .* with 4"):
        settle("align", [], ["model.lm.summary_tokens=7"], runs["tokenizer"], run)
    with pytest.raises(InputError, match="is of stage align"):
        train_stage("instruct", [], output=run, resume=True)
    with pytest.raises(InputError, match="started from"):
        train_stage("align", [], output=run, init=runs["instruct"], resume=True)


def test_another_scaling_than_the_parents_is_refused_at_every_step(
    runs, tiny_options, tmp_path, capsys
):
    import shutil

    from fmrilm.evaluation.evaluate import evaluate
    from fmrilm.evaluation.tokenizer.embed import embed
    from fmrilm.explanation.explain import explain

    with pytest.raises(InputError, match=r"'standard_roi'.*scaled by 'none': set data\.norm="):
        train_stage("instruct", [*tiny_options, "data.norm=standard_roi"],
                    output=tmp_path / "run", init=runs["align"])  # fmt: skip
    edited: dict[str, Path] = {}
    for stage in ("tokenizer", "instruct"):
        edited[stage] = Path(shutil.copytree(runs[stage], tmp_path / stage))
        path = edited[stage] / "config.yaml"
        path.write_text(path.read_text().replace("norm: null", "norm: robust_roi"))
    folder = read_lineage(runs["align"])["cohorts"]["test"]["folder"]
    for ask in (
        lambda: evaluate([str(edited["instruct"])], split="val"),
        lambda: evaluate([str(edited["tokenizer"])], split="val"),
        lambda: explain(str(edited["instruct"]), task="sex", split="val"),
        lambda: embed(edited["tokenizer"], Path(folder), output=tmp_path / "x.npy"),
    ):
        with pytest.raises(InputError, match=r"'robust_roi'.*scaled by 'none'"):
            ask()


def test_other_statistics_of_the_same_scaling_are_refused(tmp_path, tiny_options):
    from small import make_cohort

    folder = make_cohort(tmp_path / "cohort", subjects=20, norm="standard_global")
    options = [pair for pair in tiny_options if not pair.startswith("data.dataset_dir")]
    options += [f"data.dataset_dir=[{folder}]", "tokenizer.clip_weight=0", "train.epochs=1"]
    tok = train_stage("tokenizer", options, output=tmp_path / "tok")
    path = folder / "normalization_params.npz"
    scaler = Scaler.load(path)
    scaler.scale_ = scaler.scale_ * 2
    scaler.save(path)
    with pytest.raises(InputError, match=r"scaled with scale .*, .* was trained on it scaled with"):
        train_stage("tokenizer", options, output=tmp_path / "again", init=tok)
