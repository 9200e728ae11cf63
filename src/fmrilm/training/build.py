"""From a configuration and cohort folders to a trained run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmrilm.cohort.checksums import edited
from fmrilm.cohort.cohort import Cohort, read_info
from fmrilm.cohort.original import find_cohort
from fmrilm.cohort.settings import described, known_state, with_targets
from fmrilm.config.flags import read_flags
from fmrilm.config.schema import Config, load_config, save_config
from fmrilm.errors import InputError
from fmrilm.lineage.card import write_card
from fmrilm.lineage.trained_on import check_scaling
from fmrilm.locks import check_free, check_kind, writing
from fmrilm.processing.processor import FMRIProcessor
from fmrilm.progress import is_first_process, say
from fmrilm.registry import suggest
from fmrilm.run_record import find_parent, is_run, read_lineage
from fmrilm.tasks import declare
from fmrilm.training.runs import (
    check_base,
    check_same_run,
    check_unused,
    clear_run,
    find_run,
    write_lineage,
)

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from fmrilm.training.objective import Objective

STAGES = ("tokenizer", "align", "instruct")


def train_stage(
    stage: str,
    overrides: list[str] | None = None,
    *,
    config: list[Path] | None = None,
    output: Path | None = None,
    init: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
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
        Go on from the last checkpoint of the run folder, with its options where none are
        given; only ``train.*`` may change.
    overwrite : bool
        Delete the run that is in the folder: model, checkpoints, log, evaluation.

    Raises
    ------
    InputError
        If the folder holds another run, or the one to resume had other options or data.

    Examples
    --------
    fmrilm train tokenizer -c configs/vit_tiny.yaml -o runs/tok data.dataset_dir=[data/UKB]
    fmrilm train align -c configs/vit_tiny.yaml -o runs/align --init runs/tok train.epochs=10
    fmrilm train instruct -c configs/vit_tiny.yaml -o runs/inst --init runs/align --resume
    """
    from fmrilm.training.distributed import check_launch, check_start
    from fmrilm.training.options import settle
    from fmrilm.training.trainer import train

    check_launch()
    if stage not in STAGES:
        hint = suggest(stage, list(STAGES))
        raise InputError(f"unknown stage {stage!r}{hint}; the first word is {', '.join(STAGES)}")
    paths, pairs = read_flags(overrides or [])
    output = _folder(output or paths.get("output"), "-o")
    init_given = init or paths.get("init")
    parent = None if init_given is None else find_run(Path(init_given))
    if resume and overwrite:
        raise InputError("--resume goes on with a run, --overwrite deletes it: give one of them")
    check_kind(output, "run")
    if is_first_process():
        check_free(output)
    lineage: dict[str, Any] = {}
    if resume:
        lineage = read_lineage(output)
        _check_resumed(lineage, stage, parent)
        parent = parent or find_parent(lineage)
    else:
        if not (overwrite and (output / "lineage.json").is_file()):
            check_unused(output)
        if overwrite and parent is not None and parent.resolve() == output.resolve():
            raise InputError(f"{output} is what --init starts from: train into another folder")
    files = [*(config or []), *([Path(paths["config"])] if "config" in paths else [])]
    settings, unused = settle(stage, files, pairs, parent, output if resume else None)
    for sentence in unused:
        say(sentence)
    check_start(settings.train)
    declare(settings, replace=True)
    cohorts = open_cohorts(settings, [output, *([] if parent is None else [parent])])
    settings = with_targets(settings, cohorts)
    if resume:
        check_same_run(output, lineage, settings, cohorts)
    sources = [path for path in (parent, output if resume else None) if path is not None]
    for source in sources:
        for cohort in cohorts:
            check_scaling(read_lineage(source)["cohorts"], cohort, source)
    for cohort in cohorts:
        say(summarise(cohort))
    objective, train_loader, val_loader = _builder(stage)(settings, cohorts, parent)
    if resume:
        check_base(lineage, objective.base)
    if is_first_process():
        objective.processor = FMRIProcessor.from_cohorts(cohorts, settings)
    # of several processes one writes
    with writing(output) if is_first_process() else nullcontext():
        if is_first_process():
            if not resume:
                clear_run(output)
                lineage["run"] = write_lineage(output, stage, parent, cohorts, objective.base)
            save_config(settings, output / "config.yaml")
        run_id = str(lineage.get("run", ""))
        train(objective, train_loader, settings.train, output, val_loader, resume, run_id)
        if is_first_process():
            write_card(output)
    return output


def _check_resumed(lineage: dict[str, Any], stage: str, parent: Path | None) -> None:
    """Raise :class:`InputError` if a run is resumed as another stage, or from another parent."""
    if lineage["stage"] != stage:
        raise InputError(f"the run to resume is of stage {lineage['stage']}, not {stage}")
    if parent is None:
        return
    same = str(parent.resolve()) == lineage["parent"] or is_run(parent, lineage.get("parent_run"))
    if not same:
        raise InputError(
            f"the run to resume started from {lineage['parent']}, --init is {parent}: leave it out"
        )


def rebuild_objective(run: Path) -> Objective:
    """Return the objective of a run folder as it was before training, to read a checkpoint into."""
    lineage = read_lineage(run)
    parent = find_parent(lineage)
    config = load_config([run / "config.yaml"])
    declare(config)
    cohorts = open_cohorts(config, [run, *([] if parent is None else [parent])])
    return _builder(lineage["stage"])(config, cohorts, parent)[0]


def open_cohorts(config: Config, runs: Sequence[Path] = ()) -> list[Cohort]:
    """Return the cohorts of a configuration.

    Parameters
    ----------
    config : Config
    runs : sequence of path
        The run folder and its parent's, in which our files lie about cohorts that are not ours to
        write to.

    Raises
    ------
    InputError
        If there are none, two have the same name, or their regions do not fit the model.
    """
    if not config.data.dataset_dir:
        raise InputError("no cohort given: add data.dataset_dir=[folder] or --dataset_dir folder")
    cohorts = []
    for given in config.data.dataset_dir:
        folder = find_cohort(given)
        state = known_state(folder, read_info(folder).name, config.data.state_dir, runs)
        cohorts.append(Cohort(folder, config.data.norm, state=state))
        cohorts[-1].info = described(cohorts[-1].info, config)
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
    """Return how many scans a cohort trains on, which regions are masked, which scans were edited.

    Only the first ``at_most`` training scans are read.
    """
    train, val = cohort.indices("train"), cohort.indices("val")
    masks = np.stack([cohort.read(int(i))[1] for i in train[:at_most]])
    synthetic = " (SYNTHETIC)" if cohort.info.synthetic else ""
    text = f"{cohort.name}{synthetic}: {len(train)} training and {len(val)} validation scans"
    text = "; ".join([text, *cohort.notes])
    scans = int((~masks).any(1).sum())
    if scans:
        regions = int((~masks).any(0).sum())
        text += (
            f"; {regions} of {masks.shape[1]} regions constant or absent in "
            f"{scans} of {len(masks)} scans looked at: masked"
        )
    changed = edited(cohort.store)
    if changed:
        text += (
            f"; {len(changed)} scans differ from what was written into the store (edited since, or "
            f"damaged), the first is {cohort.store.subjects[changed[0]]} "
            f"{cohort.store.sessions[changed[0]]}"
        )
    return text


# Stages ------------------------------------------------------------------------------------------


def build_tokenizer_stage(
    config: Config, cohorts: list[Cohort], parent: Path | None
) -> tuple[Objective, DataLoader, DataLoader]:
    """Return objective and loaders of stage 1."""
    import torch

    from fmrilm.lm.embedding.descriptions import embed_descriptions, embed_words
    from fmrilm.lm.embedding.ngrams import NgramEmbedder
    from fmrilm.lm.language_models import identify, load_language_model
    from fmrilm.lm.text import TextEncoder
    from fmrilm.tokenizer.saved import build_tokenizer
    from fmrilm.tokenizer.tokenizer import FMRITokenizer
    from fmrilm.training.data.collate import collate_scans
    from fmrilm.training.data.loaders import (
        make_dataset,
        make_loader,
        split_rows,
        stage_descriptions,
        start_loader,
        training_texts,
    )
    from fmrilm.training.stages.tokenizer import TokenizerObjective

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
    embeddings, language_model, base, ngrams, words = None, None, None, None, None
    rows = {split: split_rows(cohorts, split) for split in ("train", "val")}
    if config.tokenizer.clip_weight > 0:
        lm, text_tokenizer = load_language_model(config.model.lm, training_texts(config, cohorts))
        base = identify(lm, config.model.lm.base_model)
        if base.name == "tiny":
            language_model = (lm, text_tokenizer)
        texts = stage_descriptions(config, cohorts)
        of_train = [text for text in texts[: len(rows["train"])] if text]
        text = TextEncoder(text_tokenizer, config.model.vq_model.num_tokens)
        if config.tokenizer.text_tower == "ngrams":
            ngrams = NgramEmbedder().fit(of_train)
            embeddings = ngrams.embed(texts)
        else:
            embeddings = embed_descriptions(lm, text, texts, pooling=config.tokenizer.text_pooling)
        embeddings[[not text for text in texts]] = torch.nan  # no description: no pair
        if config.tokenizer.domain_weight > 0:
            words = embed_words(lm, text, of_train)
    objective = TokenizerObjective(
        tokenizer,
        config.tokenizer,
        embeddings,
        language_model,
        words,
        len(rows["train"]) * config.train.epochs,
        len(rows["train"]),
    )

    objective.base, objective.ngrams = base, ngrams

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
    from fmrilm.training.stages.language import build_align_stage, build_instruct_stage

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
