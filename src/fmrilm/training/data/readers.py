"""Readers of the questions of stage 3, fitted on its training scans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor

from fmrilm.config.schema import EVIDENCE_SLOTS
from fmrilm.lm.fmrilm import FMRILM
from fmrilm.lm.summary.readers import Reader, fit_reader
from fmrilm.lm.summary.signals import WIDTH, SignalSummary
from fmrilm.progress import say
from fmrilm.tables.families import family_units
from fmrilm.tasks import Task
from fmrilm.training.data.collate import Asked, collate_scans
from fmrilm.training.data.dataset import ScanDataset

FEWEST = 10  # scans with a label that a reader is fitted on


class Evidence:
    """What readers say of the training scans when their own people are left out.

    Parameters
    ----------
    model : FMRILM
        Its readers are set.
    dataset : ScanDataset
        The training scans.
    asked : sequence of Question, Conversation or OpenReport
        What is asked at every position of the dataset.
    """

    def __init__(self, model: FMRILM, dataset: ScanDataset, asked: Sequence[Asked]) -> None:
        self._model = model
        self._row: dict[int, int] = {}
        if not isinstance(model.summary, SignalSummary):
            return
        places = {dataset.scan_id(place): place for place in range(len(dataset))}
        self._row = {scan: row for row, scan in enumerate(places)}
        numbers = _numbers(model, dataset, list(places.values()))
        groups = _groups(dataset, list(places.values()))
        tasks, answers = _answers(dataset, asked)
        readers: list[Reader] = []
        held_out = []
        for name, task in tasks.items():
            rows = np.array([self._row[scan] for scan in answers[name]])
            target = _target(task, np.array(list(answers[name].values())))
            reader = fit_reader(
                numbers[rows], target, groups[rows], model.summary.slices, not task.values
            )
            readers.append(reader)
            held_out.append((rows, reader.held_out))
            said = [f"{part} {share:.0%}" for part, share in reader.shares.items() if share]
            say(f"reader of {name}: {', '.join(said) or 'no family is above chance'}")
        model.summary.set_readers(readers)
        model.config.evidence = list(tasks)
        with torch.no_grad():
            device = model.device
            self._evidence = torch.cat(
                [model.summary.evidence(part.to(device)).cpu() for part in
                 torch.from_numpy(numbers).split(256)]
            )  # fmt: skip
        for slot, (rows, said_of) in enumerate(held_out):
            self._evidence[rows, slot, : said_of.shape[1]] = torch.from_numpy(said_of).float()

    def __deepcopy__(self, memo: dict[int, object]) -> Evidence:
        return self  # a copy of an objective shares what was computed

    @contextmanager
    def of(self, batch: Mapping[str, Tensor]) -> Iterator[None]:
        """Have the model told, in training, what is said of the scans of a batch."""
        summary = self._model.summary
        told = nullcontext()
        if self._row and self._model.training:
            assert isinstance(summary, SignalSummary)
            rows = [self._row[scan] for scan in batch["scan"].tolist()]
            told = summary.telling(self._evidence[rows].to(batch["fmri"].device))  # type: ignore[assignment]
        with told:
            yield


@torch.no_grad()
def _numbers(model: FMRILM, dataset: ScanDataset, places: Sequence[int]) -> np.ndarray:
    assert isinstance(model.summary, SignalSummary)
    found = []
    for start in range(0, len(places), 16):
        batch = collate_scans([dataset[place] for place in places[start : start + 16]])
        numbers = model.summary.numbers(
            batch["fmri"].to(model.device), batch["roi_mask"].to(model.device)
        )
        found.append(numbers.cpu().numpy())
    return np.concatenate(found)


def _groups(dataset: ScanDataset, places: Sequence[int]) -> np.ndarray:
    """A number for every family (person, where none is named) of every scan."""
    units = [family_units(cohort.table, "subject_id").tolist() for cohort in dataset.cohorts]
    keys = [(c, units[c][i]) for c, i in (dataset.rows[place] for place in places)]
    known = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([known[key] for key in keys])


def _answers(
    dataset: ScanDataset, asked: Sequence[Asked]
) -> tuple[dict[str, Task], dict[str, dict[int, int]]]:
    """The tasks that can have readers, and of each the answer's position by scan."""
    tasks: dict[str, Task] = {}
    answers: dict[str, dict[int, int]] = {}
    for place, about in enumerate(asked):
        for task, index in about.known():
            tasks[task.name] = task
            answers.setdefault(task.name, {})[dataset.scan_id(place)] = index
    chosen = {
        name: task
        for name, task in tasks.items()
        if (task.values or len(task.candidates) <= WIDTH)
        and len(answers[name]) >= FEWEST
        and len(set(answers[name].values())) > 1
    }
    return dict(list(chosen.items())[:EVIDENCE_SLOTS]), answers


def _target(task: Task, indices: np.ndarray) -> np.ndarray:
    """What a reader predicts, (n, k)."""
    if task.values:
        return np.array(task.values, dtype=np.float64)[indices, None]
    if len(task.candidates) == 2:
        return (indices == 1).astype(np.float64)[:, None]
    return (indices[:, None] == np.arange(len(task.candidates))).astype(np.float64)
