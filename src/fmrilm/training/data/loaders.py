"""Datasets, loaders and texts of a configuration's cohorts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from fmrilm.cohort.cohort import Cohort
from fmrilm.config.schema import Config, DatasetConfig
from fmrilm.errors import InputError
from fmrilm.progress import say
from fmrilm.tasks import TASKS, Task, build_prompt
from fmrilm.training.data.dataset import ScanDataset

POOL = 16  # batches that are sorted by length together


def make_dataset(config: Config, cohorts: Sequence[Cohort], rows: list) -> ScanDataset:
    """Return a dataset of the given (cohort, scan) rows."""
    data = config.data
    return ScanDataset(
        cohorts,
        rows,
        config.model.vq_model.num_timestamp,
        data.length,
        data.cache_gb if data.cache else 0.0,
    )


def split_rows(cohorts: Sequence[Cohort], split: str) -> list[tuple[int, int]]:
    """Return the (cohort, scan) rows of one split of all cohorts."""
    if split == "test":
        raise ValueError("the test split is read only by fmrilm.evaluation")
    return [(c, int(i)) for c, cohort in enumerate(cohorts) for i in cohort.indices(split)]


class LengthBuckets(Sampler[int]):
    """Random order in which scans with texts of similar length come together.

    A batch is padded to its longest text; one long text among short ones wastes the rest.

    Parameters
    ----------
    lengths : sequence of int
        One per position.
    batch_size : int
    seed : int
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = list(lengths), batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; the same epoch always has the same."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        size, full = self.batch_size, []
        for start in range(0, len(order), POOL * size):
            pool = sorted(order[start : start + POOL * size], key=lambda i: self.lengths[i])
            full += [pool[i : i + size] for i in range(0, len(pool), size)]
        partial = [batch for batch in full if len(batch) < size]
        full = [batch for batch in full if len(batch) == size]
        for at in torch.randperm(len(full), generator=generator).tolist():
            yield from full[at]
        for batch in partial:
            yield from batch


def make_loader(
    config: Config,
    dataset: ScanDataset,
    collate: Callable,
    shuffle: bool,
    lengths: Sequence[int] | None = None,
) -> DataLoader:
    """Return a loader of a dataset; with ``lengths`` of its texts, batches of similar ones."""
    train = config.train
    batch_size = min(train.batch_size, len(dataset))
    sampler: Any = None
    if shuffle and lengths is not None:
        sampler = LengthBuckets(lengths, batch_size, train.seed)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle and sampler is None,
        sampler=sampler,
        collate_fn=collate,
        # Started anew every epoch: workers that live on draw other crops once a run is resumed.
        num_workers=train.num_workers,
        pin_memory=torch.cuda.is_available(),
        drop_last=shuffle and len(dataset) > train.batch_size,
    )


def start_loader(config: Config, dataset: ScanDataset, collate: Callable) -> DataLoader:
    """Return a loader of all scans in random order: the same for any batch size of training."""
    generator = torch.Generator().manual_seed(config.train.seed)
    return DataLoader(dataset, batch_size=16, shuffle=True, generator=generator, collate_fn=collate)


def cohort_tasks(config: Config, cohort: Cohort) -> list[Task]:
    """Return what is asked of a cohort: ``instruct.tasks``, else its targets."""
    names = list(config.instruct.tasks)
    if not names:
        names = config.datasets.get(cohort.name, DatasetConfig(cohort.info.targets)).targets
    return [TASKS[name] for name in names]


def training_texts(config: Config, cohorts: Sequence[Cohort]) -> list[str]:
    """Return the texts a text tokenizer may learn from: train descriptions, prompts, answers."""
    texts: list[str] = []
    for cohort in cohorts:
        texts += [text for text in descriptions_of(config, cohort, "train") if text]
        for task in [*cohort_tasks(config, cohort), TASKS["describe"]]:
            for variant in range(len(task.questions)):
                prompt = build_prompt(task, variant, cohort.info.description)
                texts.append(" ".join([prompt, *task.candidates]))
    return texts


def descriptions_of(config: Config, cohort: Cohort, split: str) -> list[str]:
    """Return the descriptions of a cohort's scans of one split; empty where there is none."""
    texts = cohort.descriptions(list(config.data.desc_type))
    return texts.iloc[cohort.indices(split)].tolist()


def stage_descriptions(config: Config, cohorts: Sequence[Cohort]) -> list[str]:
    """Return the descriptions of all training and then all validation scans, and say how many lack.

    Raises
    ------
    InputError
        If no training scan has one.
    """
    texts: list[str] = []
    for split in ("train", "val"):
        for cohort in cohorts:
            some = descriptions_of(config, cohort, split)
            texts += some
            missing = sum(not text for text in some)
            if missing:
                say(
                    f"{cohort.name}: {missing} of {len(some)} {split} scans have no description: "
                    "left out of the alignment with text"
                )
    count = sum(len(cohort.indices("train")) for cohort in cohorts)
    if not config.data.desc_type:
        raise InputError(
            "data.desc_type names no descriptions to align with: add data.desc_type=[fc], or train "
            "without alignment (tokenizer.clip_weight=0)"
        )
    if not any(texts[:count]):
        raise InputError(
            "no training scan has a description: run `fmrilm describe`, or train without alignment "
            "(tokenizer.clip_weight=0)"
        )
    return texts
