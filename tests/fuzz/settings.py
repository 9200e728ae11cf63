"""Damaged YAML files, and values of ``key=value`` that make no sense."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from fuzz.damage import ANY, BYTES, REFUSE, TEXT, Rng, change_tree, pick

NOT_NUMBERS = ["nan", "inf", "-inf", "-1", "text", "[1]", "{a: 1}", "1e999", "''"]
# whole or real numbers of which a negative, or no number at all, makes no sense
NUMBERS = [
    *(f"model.vq_model.{name}" for name in (
        "patch_size", "num_rois", "num_timestamp", "n_embd", "n_layer", "n_head", "dec_layer", "drop_path",
        "dropout", "codebook_size", "code_dim", "decay", "beta", "decoder_eps", "num_latent_tokens",
        "num_quantizers")),
    *(f"model.lm.{name}" for name in (
        "summary_tokens", "summary_components", "summary_dropout", "token_dropout", "dropout", "lora_r",
        "lora_alpha", "lora_dropout", "num_classes", "temperature", "top_p", "top_k", "tiny_width",
        "tiny_depth", "tiny_vocab")),
    *(f"train.{name}" for name in (
        "epochs", "batch_size", "global_batch_size", "gradient_accumulation_steps", "lr", "min_lr",
        "weight_decay", "beta1", "beta2", "warmup", "warmup_steps", "grad_clip", "num_workers",
        "checkpoint_every", "seed")),
    *(f"tokenizer.{name}" for name in (
        "fc_weight", "profile_weight", "spectral_weight", "domain_weight", "clip_weight", "clip_dim")),
    *(f"align.{name}" for name in (
        "text_only_weight", "fmri_only_weight", "fmri2text_weight", "text2fmri_weight", "mask_ratio",
        "max_text_length")),
    "instruct.fewshot_samples",
]  # fmt: skip
ZERO = ("patch_size", "num_rois", "num_timestamp", "codebook_size", "code_dim", "batch_size", "lr", "grad_clip",
        "checkpoint_every", "gradient_accumulation_steps", "tiny_width", "tiny_depth", "tiny_vocab", "lora_r",
        "clip_dim", "max_text_length", "num_classes", "fewshot_samples", "num_quantizers")  # fmt: skip
TOO_MUCH = {"drop_path": "2", "dropout": "1.5", "summary_dropout": "7", "token_dropout": "3", "warmup": "4",
            "beta1": "1", "beta2": "2", "top_p": "3", "mask_ratio": "2", "lora_dropout": "9", "decay": "5",
            "n_embd": "100000000", "n_layer": "1000000", "codebook_size": "10**12", "code_dim": "99999999999",
            "num_timestamp": "99999999999", "num_rois": "99999999999", "tiny_width": "100000000",
            "tiny_depth": "10000000", "clip_dim": "100000000000", "num_workers": "1000000",
            "num_quantizers": "10000000", "dec_layer": "99999999", "lr": "1e300", "num_latent_tokens": "99999999999",
            "lora_r": "999999999999", "epochs": "1" + "0" * 30, "batch_size": "1" + "0" * 30,
            "seed": "1" + "0" * 30}  # fmt: skip
WORDS = ["", "null", "~", "../../../x", "/etc/passwd", "[", "]", "{", "}", "[[]]", "{a: b}", "!!python/object/apply:os.system ['x']",
         "${oc.env:HOME}", "${nope}", "${train}", "${train.tracker_run}", "*a", "&a", "a: b", "- a", "'", '"', "\n", "é", "x" * 9000, "%", "@x",
         "`x`", "1", "true", "a,b", "a b", "[a,,b]", "\t"]  # fmt: skip


def number(rng: Rng) -> tuple[str, str]:
    """Return a ``key=value`` that makes no sense, and what is expected of it."""
    key = pick(rng, NUMBERS)
    name = key.rpartition(".")[2]
    kind = rng.random()
    if kind < 0.2 and name in TOO_MUCH:
        return f"{key}={TOO_MUCH[name]}", REFUSE
    if kind < 0.4 and name in ZERO:
        return f"{key}=0", REFUSE
    return f"{key}={pick(rng, NOT_NUMBERS)}", REFUSE


def word(rng: Rng) -> tuple[str, str]:
    """Return any key with a word that is not meant for it."""
    from fmrilm.config.schema import Config

    keys = []

    def collect(value: Any, prefix: str = "") -> None:
        for item in dataclasses.fields(value):
            inner = getattr(value, item.name)
            if dataclasses.is_dataclass(inner):
                keys.append(prefix + item.name)
                collect(inner, f"{prefix}{item.name}.")
            else:
                keys.append(prefix + item.name)

    collect(Config())
    keys += ["", ".", "a..b", "train.", "train.lr.x", "trian.lr", "x", "[0]", "datasets.a.targets", "tasks.a.answers",
             "tasks.a.values", "train[lr]", "train.lr[0]", "é", "a" * 3000, "model.vq_model.fsq_levels"]  # fmt: skip
    return f"{pick(rng, keys)}={pick(rng, WORDS)}", ANY


YAML_TEXTS = [
    "", "null", "[]", "1", "x", "- a", "{", "a: [", "a: b: c", "\ta: 1", "train: null", "train: []", "train: 1",
    "train:\n  lr: {a: 1}", "train:\n lr: 1\n lr: 2", "? [a]\n: 1", "1: 2", "null: 1", "true: x", "train:\n  1: 2",
    "!!python/object/apply:os.system ['touch CANARY']", "train: !!python/name:os.system ''", "train: !x {lr: 1}",
    "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
    "g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]",
    "train: &t\n  lr: *t", "a: *nope", "%YAML 9.9\n---\na: 1", "a: 1\n---\nb: 2", "train:\n  lr: ${oc.env:HOME}",
    "train:\n  lr: ${nope}", "train:\n  lr: ???", "train: ${train}", "name: 2020-01-01", "train:\n  lr: 1_000",
    "train:\n  epochs: 0x10", "train:\n  epochs: 1e3", "[" * 5000, "{a: " * 3000, "'", '"\\x"', "a: \"\\ud800\"",
    "name: .nan", "targets: {a: 1}", "datasets: [a]", "datasets:\n  x: 1", "tasks:\n  x:\n    answers: [1]",
    "tasks:\n  x:\n    values: [a]", "tasks:\n  sex:\n    question: 1\n    answers: {0: a}",
    "datasets:\n  test:\n    targets: [nope]", "norm: [x]", "values: {sex: [1]}", "columns: [x]", "bins: x",
]  # fmt: skip


def yaml_whole(path: Path, rng: Rng, canary: Path) -> str:
    path.write_text(pick(rng, YAML_TEXTS).replace("CANARY", str(canary)), encoding="utf-8")
    return ANY


def yaml_value(path: Path, rng: Rng, canary: Path) -> str:
    tree = change_tree(yaml.safe_load(path.read_text(encoding="utf-8")), rng)
    text = yaml.safe_dump(tree, allow_unicode=True)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return ANY


YAML = [yaml_value, yaml_value, yaml_value, yaml_whole, yaml_whole, *TEXT, *BYTES]
