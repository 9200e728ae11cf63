"""From a configuration and cohort folders to a trained run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmrilm.config import Config, load_config, save_config
from fmrilm.data.cohort import Cohort
from fmrilm.errors import InputError
from fmrilm.flags import read_flags
from fmrilm.registry import suggest
from fmrilm.training.runs import find_run, read_lineage, write_lineage

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from fmrilm.training.trainer import Objective

STAGES = ("tokenizer", "align", "instruct")


def train_stage(
    stage: str,
    overrides: list[str] | None = None,
    *,
    config: list[Path] | None = None,
    output: Path | None = None,
    init: Path | None = None,
    resume: bool = False,
) -> Path:
    """Train one stage and return its run folder.

    Parameters
    ----------
    stage : str
        tokenizer, align or instruct.
    overrides : list of str
        ``section.key=value`` pairs, or the original's flags such as ``--quantizer fsq``.
    config : list of Path
        YAML files, later ones win.
    output : Path
        The run folder.
    init : Path
        Run folder of the stage before: a tokenizer for align, a model for instruct.
    resume : bool
        Go on from the last checkpoint of the run folder.

    Examples
    --------
    fmrilm train tokenizer -c configs/vit_tiny.yaml -o runs/tok data.dataset_dir=[data/UKB]
    fmrilm train align -c configs/vit_tiny.yaml -o runs/align --init runs/tok train.epochs=10
    fmrilm train instruct -c configs/vit_tiny.yaml -o runs/inst --init runs/align --resume
    """
    from fmrilm.training.parallel import check_start
    from fmrilm.training.trainer import train

    if stage not in STAGES:
        raise InputError(f"unknown stage {stage!r}{suggest(stage, list(STAGES))}; one of {STAGES}")
    paths, pairs = read_flags(overrides or [])
    output = _folder(output or paths.get("output"), "-o")
    init_given = init or paths.get("init")
    parent = None if init_given is None else find_run(Path(init_given))
    if resume:
        files = [output / "config.yaml"]
        lineage = read_lineage(output)
        parent = None if lineage["parent"] is None else Path(lineage["parent"])
    else:
        files = [*(config or []), *([Path(paths["config"])] if "config" in paths else [])]
    settings = load_config(files, pairs)
    check_start(settings.train)
    cohorts = open_cohorts(settings)
    for cohort in cohorts:
        print(summarise(cohort))
    _quiet_transformers()
    objective, train_loader, val_loader = _builder(stage)(settings, cohorts, parent)
    if os.environ.get("RANK", "0") == "0":  # of several processes one writes
        output.mkdir(parents=True, exist_ok=True)
        save_config(settings, output / "config.yaml")
        write_lineage(output, stage, parent, cohorts)
    train(objective, train_loader, settings.train, output, val_loader, resume)
    return output


def rebuild_objective(run: Path) -> Objective:
    """Return the objective of a run folder as it was before training, to read a checkpoint into."""
    lineage = read_lineage(run)
    parent = None if lineage["parent"] is None else Path(lineage["parent"])
    config = load_config([run / "config.yaml"])
    _quiet_transformers()
    return _builder(lineage["stage"])(config, open_cohorts(config), parent)[0]


def open_cohorts(config: Config) -> list[Cohort]:
    """Return the cohorts of a configuration.

    Raises
    ------
    InputError
        If there are none, two have the same name, or their regions do not fit the model.
    """
    if not config.data.dataset_dir:
        raise InputError("no cohort given: add data.dataset_dir=[folder] or --dataset_dir folder")
    cohorts = [Cohort(folder, config.data.norm) for folder in config.data.dataset_dir]
    names = [cohort.name for cohort in cohorts]
    if len(set(names)) < len(names):
        raise InputError(f"two cohorts have the same name, see cohort.yaml: {', '.join(names)}")
    expected = config.model.vq_model.num_rois
    for cohort in cohorts:
        if cohort.store.n_rois != expected:
            raise InputError(
                f"{cohort.name} has {cohort.store.n_rois} regions, the model has {expected}: set "
                "model.vq_model.num_rois or prepare the cohort with the model's atlas"
            )
    return cohorts


def summarise(cohort: Cohort, at_most: int = 500) -> str:
    """Return how many scans a cohort trains on, and which regions are masked in them.

    Only the first ``at_most`` training scans are read.
    """
    train, val = cohort.indices("train"), cohort.indices("val")
    masks = np.stack([cohort.read(int(i))[1] for i in train[:at_most]])
    synthetic = " (SYNTHETIC)" if cohort.info.synthetic else ""
    text = f"{cohort.name}{synthetic}: {len(train)} training and {len(val)} validation scans"
    scans = int((~masks).any(1).sum())
    if scans:
        regions = int((~masks).any(0).sum())
        text += (
            f"; {regions} of {masks.shape[1]} regions constant or absent in "
            f"{scans} of {len(masks)} scans looked at: masked"
        )
    return text


# Stages ------------------------------------------------------------------------------------------


def build_tokenizer_stage(
    config: Config, cohorts: list[Cohort], parent: Path | None
) -> tuple[Objective, DataLoader, DataLoader]:
    """Return objective and loaders of stage 1."""
    import torch

    from fmrilm.data.collate import collate_scans
    from fmrilm.models.alignment import embed_descriptions, embed_words
    from fmrilm.models.lm import load_language_model
    from fmrilm.models.ngrams import NgramEmbedder
    from fmrilm.models.text import TextEncoder
    from fmrilm.models.tokenizer import FMRITokenizer, build_tokenizer
    from fmrilm.training.loaders import (
        descriptions_of,
        make_dataset,
        make_loader,
        split_rows,
        start_loader,
        training_texts,
    )
    from fmrilm.training.tokenizer import TokenizerObjective

    torch.manual_seed(config.train.seed)
    tokenizer = (
        build_tokenizer(config.model.vq_model)
        if parent is None
        else FMRITokenizer.from_pretrained(parent / "model")
    )
    if tokenizer.uses_coords:
        atlas = cohorts[0].atlas
        centroids = torch.from_numpy(atlas.centroids).float()
        is_new = parent is not None and len(atlas) != tokenizer.config.num_rois
        if is_new:
            tokenizer = tokenizer.for_atlas(centroids, atlas.name)
        tokenizer.set_centroids(centroids, atlas.name)
    embeddings, language_model, ngrams, words, texts = None, None, None, None, []
    rows = {split: split_rows(cohorts, split) for split in ("train", "val")}
    if config.tokenizer.clip_weight > 0:
        lm, text_tokenizer = load_language_model(config.model.lm, training_texts(config, cohorts))
        if config.model.lm.base_model == "tiny":
            language_model = (lm, text_tokenizer)
        for split in rows:
            for cohort in cohorts:
                texts += descriptions_of(config, cohort, split)
        text = TextEncoder(text_tokenizer, config.model.vq_model.num_tokens)
        if config.tokenizer.text_tower == "ngrams":
            ngrams = NgramEmbedder().fit(texts[: len(rows["train"])])
            embeddings = ngrams.embed(texts)
        else:
            embeddings = embed_descriptions(lm, text, texts, pooling=config.tokenizer.text_pooling)
        if config.tokenizer.domain_weight > 0:
            words = embed_words(lm, text, texts[: len(rows["train"])])
    objective = TokenizerObjective(
        tokenizer,
        config.tokenizer,
        embeddings,
        language_model,
        words,
        len(rows["train"]) * config.train.epochs,
        len(rows["train"]),
    )

    objective.ngrams = ngrams

    def collate(offset: int) -> Callable:
        def make(items: Sequence) -> dict[str, Any]:
            batch = collate_scans(items)
            return {**batch, "description": batch["position"] + offset}

        return make

    train_set, val_set = (make_dataset(config, cohorts, rows[split]) for split in rows)
    train_loader = make_loader(config, train_set, collate(0), True)
    if parent is None:
        objective.start(start_loader(config, train_set, collate(0)))
    val_loader = make_loader(config, val_set, collate(len(rows["train"])), False)
    return objective, train_loader, val_loader


def _builder(stage: str) -> Callable:
    from fmrilm.training.language import build_align_stage, build_instruct_stage

    builders = {
        "tokenizer": build_tokenizer_stage,
        "align": build_align_stage,
        "instruct": build_instruct_stage,
    }
    return builders[stage]


def _folder(given: Path | str | None, flag: str) -> Path:
    if given is None:
        raise InputError(f"give the run folder: {flag} runs/name")
    return Path(given)


def _quiet_transformers() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
