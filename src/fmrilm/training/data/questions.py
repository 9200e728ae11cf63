"""Which scan is asked what in stage 3, in which format, and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.told import Teller
from fmrilm.config.schema import Config
from fmrilm.errors import InputError
from fmrilm.progress import say
from fmrilm.tasks import Task
from fmrilm.training.data.collate import Asked, Conversation, OpenReport, Question
from fmrilm.training.data.loaders import cohort_tasks

Pairs = list[tuple[int, int]]  # (scan, position of its answer among the candidates)


def collect_questions(
    config: Config, cohorts: Sequence[Cohort], split: str
) -> tuple[Pairs, list[Asked]]:
    """Return the (cohort, scan) rows of a split and what is asked of each.

    A scan is asked every task whose label it has; scans without the label are left out. Which
    formats there are says ``instruct.formats``: one question (``single``), all of a scan's
    questions in one conversation (``several``), or a report on all of them (``open``).

    Raises
    ------
    InputError
        If no cohort has a task.
    """
    if not any(cohort_tasks(config, cohort) for cohort in cohorts):
        names = ", ".join(cohort.name for cohort in cohorts)
        raise InputError(
            f"nothing is asked of {names}: name tasks, as in instruct.tasks=[sex], or write "
            "targets: into cohort.yaml"
        )
    rng = np.random.default_rng(config.train.seed)
    rows: Pairs = []
    asked: list[Asked] = []
    for c, cohort in enumerate(cohorts):
        by_scan: dict[int, list[tuple[Task, int]]] = {}
        sentence = cohort.info.description if config.instruct.add_src_info else ""
        for task in cohort_tasks(config, cohort):
            for index, class_index in _chosen(config, cohort, task, split, rng):
                by_scan.setdefault(index, []).append((task, class_index))
        tellers = _Tellers(cohort, config.instruct.add_desc)
        for index, pairs in by_scan.items():
            for one in _formats(formats_of(config, cohort), index, pairs, sentence, tellers):
                rows.append((c, index))
                asked.append(one)
        if split == "train":
            for sentence in tellers.left_out(sorted(by_scan)):
                say(sentence)
    return rows, asked


def _chosen(
    config: Config, cohort: Cohort, task: Task, split: str, rng: np.random.Generator
) -> Pairs:
    labels = cohort.labels(task.column)
    indices = cohort.indices(split)
    known = [(int(i), k) for i in indices if (k := task.class_index(labels[i])) is not None]
    if split != "train":
        return known
    if config.instruct.fewshot_samples is not None:
        known = few_per_class(known, config.instruct.fewshot_samples, rng, bool(task.values))
    return balance(known, rng) if config.instruct.balanced else known


class _Tellers:
    """What is told beside the tasks of a prompt; one teller for every set of them."""

    def __init__(self, cohort: Cohort, columns: Sequence[str]) -> None:
        self._cohort, self._columns = cohort, columns
        self._known: dict[tuple[str, ...], Teller] = {}

    def facts(self, index: int, tasks: Sequence[Task]) -> dict[str, Any]:
        names = tuple(task.name for task in tasks)
        if names not in self._known:
            self._known[names] = Teller(self._cohort, self._columns, tasks)
        return self._known[names].facts(index)

    def left_out(self, indices: Sequence[int]) -> list[str]:
        sentences = [teller.left_out(indices) for teller in self._known.values()]
        return [sentence for sentence in sentences if sentence]


def formats_of(config: Config, cohort: Cohort) -> list[str]:
    """Return the formats of a cohort's questions: ``is_multi`` asks several where one was asked."""
    formats = list(config.instruct.formats)
    dataset = config.datasets.get(cohort.name)
    if dataset is not None and dataset.is_multi:
        formats = ["several" if name == "single" else name for name in formats]
    return list(dict.fromkeys(formats))


def _formats(
    formats: Sequence[str],
    index: int,
    pairs: list[tuple[Task, int]],
    sentence: str,
    tellers: _Tellers,
) -> list[Asked]:
    found: list[Asked] = []
    for name in formats:
        if name == "single":
            found += [
                Question(task, k, sentence, tellers.facts(index, [task])) for task, k in pairs
            ]
        else:
            once = {task.name: (task, k) for task, k in pairs}  # balancing repeats pairs
            kind = Conversation if name == "several" else OpenReport
            tasks, class_indices = zip(*once.values(), strict=True)
            facts = tellers.facts(index, tasks)
            found.append(kind(list(tasks), list(class_indices), sentence, facts))
    return found


def few_per_class(
    known: Pairs, count: int, rng: np.random.Generator, numbers: bool = False
) -> Pairs:
    """Return ``count`` random scans of every class from (scan, class) pairs.

    Where the answers are ``numbers``, ``count`` scans in all.

    Raises
    ------
    InputError
        If a class has fewer.
    """
    sizes = Counter(0 if numbers else k for _, k in known)
    if known and min(sizes.values()) < count:
        raise InputError(
            f"instruct.fewshot_samples={count}, but one answer has only {min(sizes.values())} "
            "training scans: use fewer"
        )
    order = [known[i] for i in rng.permutation(len(known))]
    if numbers:
        return order[:count]
    classes = sorted({k for _, k in known})
    return [pair for k in classes for pair in [p for p in order if p[1] == k][:count]]


def balance(known: Pairs, rng: np.random.Generator) -> Pairs:
    """Return (scan, class) pairs in which every class is as frequent as the largest one.

    Every scan is kept; scans of the smaller classes stand there more often, drawn at random.
    """
    classes = sorted({k for _, k in known})
    members = {k: [pair for pair in known if pair[1] == k] for k in classes}
    most = max((len(some) for some in members.values()), default=0)
    result: Pairs = []
    for some in members.values():
        repeats, rest = divmod(most, len(some))
        extra = [some[i] for i in rng.permutation(len(some))[:rest]]
        result += some * repeats + extra
    return result
