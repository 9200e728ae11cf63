"""Objectives and loaders of the stages that train a language model: align and instruct."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fmrilm.cohort.cohort import Cohort
from fmrilm.config.schema import Config
from fmrilm.errors import InputError
from fmrilm.lm.adapters import adapt
from fmrilm.lm.fmrilm import FMRILM, build_fmrilm
from fmrilm.lm.language_models import holds_tiny
from fmrilm.tokenizer.tokenizer import FMRITokenizer
from fmrilm.training.data.collate import DescriptionCollator, Question, QuestionCollator
from fmrilm.training.data.corpus import Corpus
from fmrilm.training.data.features import ScanFeatures
from fmrilm.training.data.loaders import descriptions_of, make_dataset, make_loader, training_texts
from fmrilm.training.data.questions import collect_questions
from fmrilm.training.data.readers import Evidence
from fmrilm.training.options import is_language_run
from fmrilm.training.stages.align import AlignObjective
from fmrilm.training.stages.instruct import InstructObjective

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from fmrilm.training.objective import Objective


def build_align_stage(
    config: Config, cohorts: list[Cohort], parent: Path | None
) -> tuple[Objective, DataLoader, DataLoader]:
    """Return objective and loaders of stage 2."""
    if parent is None:
        raise InputError("stage align needs a tokenizer: add --init runs/tok")
    model = _new_model(config, cohorts, parent)
    align = config.align
    corpus = None
    if align.text_corpus is not None and align.text_only_weight > 0:
        corpus = Corpus(Path(align.text_corpus), model.text.text_tokenizer)
    loaders, sets = [], []
    for split in ("train", "val"):
        texts, rows = [], []
        for c, cohort in enumerate(cohorts):
            found = descriptions_of(config, cohort, split)
            pairs = list(zip(cohort.indices(split), found, strict=True))
            rows += [(c, int(i)) for i, text in pairs if text]
            texts += [text for _, text in pairs if text]
        dataset = make_dataset(config, cohorts, rows)
        collate = DescriptionCollator(
            model.text,
            texts,
            align.max_text_length,
            asks_for_scans=align.text2fmri_weight > 0,
            corpus=corpus,
        )
        sets.append(dataset)
        lengths = [len(text) for text in texts]
        loaders.append(make_loader(config, dataset, collate, split == "train", lengths))
    scans = ScanFeatures(model, *sets)
    scans.fit_summary(sets[0])
    objective = AlignObjective(model, align, scans)
    return objective, loaders[0], loaders[1]


def build_instruct_stage(
    config: Config, cohorts: list[Cohort], parent: Path | None
) -> tuple[Objective, DataLoader, DataLoader]:
    """Return objective and loaders of stage 3."""
    if parent is None:
        raise InputError("stage instruct needs a run to start from: add --init runs/align")
    torch.manual_seed(config.train.seed)
    goes_on = is_language_run(parent)
    if goes_on:
        model = FMRILM.from_pretrained(parent / "model")
        model.source = None  # the processor and card of its parent are not its own
        adapt(model, config.model.lm)
    else:  # straight from a tokenizer, without stage 2
        model = _new_model(config, cohorts, parent)
    loaders, sets, asked = [], [], []
    for split in ("train", "val"):
        rows, questions = collect_questions(config, cohorts, split)
        if split == "train":
            _prepare_head(model, questions)
        dataset = make_dataset(config, cohorts, rows)
        varied = config.instruct.use_random_prompt and split == "train"
        collate = QuestionCollator(model.text, questions, varied)
        sets.append(dataset)
        asked.append(questions)
        loaders.append(make_loader(config, dataset, collate, split == "train"))
    scans = ScanFeatures(model, *sets)
    if not goes_on:
        scans.fit_summary(sets[0])
    objective = InstructObjective(model, scans, Evidence(model, sets[0], asked[0]))
    return objective, loaders[0], loaders[1]


def _prepare_head(model: FMRILM, asked: Sequence[object]) -> None:
    """Check that the head fits the questions; learn the scale of its values from train."""
    if model.cls_head is None:
        return
    questions = [one for one in asked if isinstance(one, Question)]
    if len(questions) < len(asked):
        raise InputError("use_cls_head answers single questions: set instruct.formats=[single]")
    size = model.cls_head.out_features
    numeric = {bool(one.task.values) for one in questions}
    if numeric == {True} and size == 1:
        values = np.array([one.task.values[one.class_index] for one in questions])
        model.value_scale.copy_(torch.tensor([values.mean(), max(values.std(), 1e-6)]))
        return
    if True in numeric:
        raise InputError("a head for numbers needs model.lm.num_classes=1 and only such tasks")
    most = max(len(one.task.candidates) for one in questions)
    if size < most:
        raise InputError(f"model.lm.num_classes is {size}, but a task has {most} answers")


def _new_model(config: Config, cohorts: Sequence[Cohort], parent: Path) -> FMRILM:
    torch.manual_seed(config.train.seed)
    tokenizer = FMRITokenizer.from_pretrained(parent / "model")
    lm, own = config.model.lm, parent / "model" / "lm"
    if lm.freeze_pretrained_lora:
        raise InputError("freeze_pretrained_lora is for stage instruct after a stage with LoRA")
    is_ours = lm.base_model == "tiny" and holds_tiny(own)
    texts = training_texts(config, cohorts)
    return build_fmrilm(config.model, tokenizer, texts, own if is_ours else None)
