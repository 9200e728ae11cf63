"""From items to batches: scans, and the text that belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from fmrilm.cohort.reader import stack_masks
from fmrilm.lm.text import IGNORED, TextEncoder
from fmrilm.tasks import TASKS, Task, build_conversation, build_prompt, build_report
from fmrilm.tasks.messages import check_facts
from fmrilm.training.data.corpus import Corpus


def collate_scans(items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Return ``fmri`` (B, R, T), ``roi_mask`` (B, R) or (B, R, T), ``position``, ``scan`` (B,)."""
    return {
        "fmri": torch.stack([item["fmri"] for item in items]),
        "roi_mask": stack_masks([item["roi_mask"] for item in items]),
        "position": torch.tensor([item["position"] for item in items]),
        "scan": torch.tensor([item["scan"] for item in items]),
    }


@dataclass
class DescriptionCollator:
    """Scans with their descriptions: to be generated from the scan, and as running text.

    Parameters
    ----------
    text : TextEncoder
    descriptions : list of str
        One per position of the dataset.
    max_text_length : int
        Text tokens kept of a description.
    asks_for_scans : bool
        Also make requests for a scan that fits the description (text to fMRI).
    corpus : Corpus, optional
        Where the running text is from instead of the descriptions.
    """

    text: TextEncoder
    descriptions: list[str]
    max_text_length: int = 600
    asks_for_scans: bool = False
    corpus: Corpus | None = None

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return a batch with ``input_ids`` etc. (fMRI to text) and ``text_input_ids`` etc."""
        batch = collate_scans(items)
        texts = [self.descriptions[item["position"]] for item in items]
        task = TASKS["describe"]
        variants = torch.randint(len(task.questions), (len(items),)).tolist()
        prompts = [self.text.prompt_ids(build_prompt(task, variant)) for variant in variants]
        answers = [
            [*self.text.answer_ids(one, end=False)[: self.max_text_length], self.text.eos_id]
            for one in texts
        ]
        batch |= self.text.batch(prompts, answers)
        batch |= _named("text", self._running_text(texts))
        if self.asks_for_scans:
            requests = [self.text.scan_request_ids(self._shortened(one)) for one in texts]
            batch |= _named("request", self.text.pad(requests))
        return batch

    def _running_text(self, texts: list[str]) -> dict[str, Tensor]:
        if self.corpus is not None:
            ids = self.corpus.draw(len(texts), self.max_text_length)
            labels = ids.clone()
            labels[:, 0] = IGNORED
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        running = [self.text.text_ids(one)[: self.max_text_length] for one in texts]
        return self.text.batch([ids[:1] for ids in running], [ids[1:] for ids in running])

    def _shortened(self, description: str) -> str:
        ids = self.text.answer_ids(description, end=False)[: self.max_text_length]
        return self.text.decode(ids)


def _named(prefix: str, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}_{name}": value for name, value in batch.items()}


class Asked(Protocol):
    """What is said about a scan at one position of the dataset: turns and answers."""

    def talk(self, draw: Callable[[int], int]) -> tuple[list[str], list[str]]:
        """Return what the model is told in turn, and what it should answer each time.

        ``draw(n)`` chooses one of n wordings.
        """
        ...

    def known(self) -> list[tuple[Task, int]]:
        """Return the tasks, and the position of the right answer among the answers of each."""
        ...


@dataclass
class Question:
    """What is asked at one position of the dataset, and the right answer."""

    task: Task
    class_index: int
    cohort_sentence: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def talk(self, draw: Callable[[int], int]) -> tuple[list[str], list[str]]:
        """Return the question and its answer."""
        variant = draw(len(self.task.questions))
        prompt = build_prompt(self.task, variant, self.cohort_sentence, self.facts)
        return [prompt], [self.task.candidates[self.class_index]]

    def known(self) -> list[tuple[Task, int]]:
        """Return the task and the position of its answer."""
        return [(self.task, self.class_index)]


@dataclass
class _SeveralTasks:
    """What is known of one scan, by task."""

    tasks: list[Task]
    class_indices: list[int]
    cohort_sentence: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def known(self) -> list[tuple[Task, int]]:
        """Return the tasks, and the position of the answer to each."""
        return list(zip(self.tasks, self.class_indices, strict=True))


class Conversation(_SeveralTasks):
    """Several questions about one scan, each asked after the last was answered."""

    def talk(self, draw: Callable[[int], int]) -> tuple[list[str], list[str]]:
        """Return the questions and their answers."""
        variants = [draw(len(task.questions)) for task in self.tasks]
        turns = build_conversation(self.tasks, variants, self.cohort_sentence, self.facts)
        pairs = zip(self.tasks, self.class_indices, strict=True)
        return turns, [task.candidates[k] for task, k in pairs]


class OpenReport(_SeveralTasks):
    """A report in sentences on everything that is known of a scan's participant."""

    def talk(self, draw: Callable[[int], int]) -> tuple[list[str], list[str]]:
        """Return the request and the report."""
        for task in self.tasks:
            check_facts(task, self.facts)
        report = TASKS["report"]
        prompt = build_prompt(report, draw(len(report.questions)), self.cohort_sentence, self.facts)
        return [prompt], [build_report(self.tasks, self.class_indices)]


@dataclass
class QuestionCollator:
    """Scans with what is asked of them.

    Parameters
    ----------
    text : TextEncoder
    questions : list of Question, Conversation or OpenReport
        One per position of the dataset.
    use_random_prompt : bool
        Draw the wording from the task's paraphrases.
    """

    text: TextEncoder
    questions: Sequence[Asked]
    use_random_prompt: bool = True

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return a batch in which the answers are supervised."""
        asked = [self.questions[item["position"]] for item in items]
        talks = [one.talk(self._draw) for one in asked]
        ids, labels = zip(*(self.text.conversation(*talk) for talk in talks), strict=True)
        batch = collate_scans(items) | self.text.pad(ids, labels)
        if all(isinstance(one, Question) for one in asked):
            singles = [one for one in asked if isinstance(one, Question)]
            batch["class_index"] = torch.tensor([one.class_index for one in singles])
            numbers = [one.task.values[one.class_index] for one in singles if one.task.values]
            if len(numbers) == len(singles):
                batch["value"] = torch.tensor(numbers)
        return batch

    def _draw(self, count: int) -> int:
        return int(torch.randint(count, ())) if self.use_random_prompt else 0
