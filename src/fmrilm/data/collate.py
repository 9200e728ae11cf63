"""From items to batches: scans, and the text that belongs to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fmrilm.data.dataset import stack_masks
from fmrilm.models.text import TextEncoder
from fmrilm.tasks import TASKS, Task, build_prompt


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
    """

    text: TextEncoder
    descriptions: list[str]
    max_text_length: int = 600

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
        running = [self.text.text_ids(one)[: self.max_text_length] for one in texts]
        alone = self.text.batch([ids[:1] for ids in running], [ids[1:] for ids in running])
        return batch | {f"text_{name}": value for name, value in alone.items()}


@dataclass
class Question:
    """What is asked at one position of the dataset, and the right answer."""

    task: Task
    class_index: int
    cohort_sentence: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class QuestionCollator:
    """Scans with one question each.

    Parameters
    ----------
    text : TextEncoder
    questions : list of Question
        One per position of the dataset.
    use_random_prompt : bool
        Draw the wording from the task's paraphrases.
    """

    text: TextEncoder
    questions: list[Question]
    use_random_prompt: bool = True

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return a batch in which the answers are supervised."""
        prompts, answers = [], []
        for item in items:
            question = self.questions[item["position"]]
            wordings = len(question.task.questions)
            variant = int(torch.randint(wordings, ())) if self.use_random_prompt else 0
            prompt = build_prompt(question.task, variant, question.cohort_sentence, question.facts)
            prompts.append(self.text.prompt_ids(prompt))
            answers.append(self.text.answer_ids(question.task.candidates[question.class_index]))
        return collate_scans(items) | self.text.batch(prompts, answers)
