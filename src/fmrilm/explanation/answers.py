"""What is explained of a task: an answer as a differentiable function of scans, and two groups.

The log-odds of one of several answers; of a number the value itself. ``B`` scans, ``C``
candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmrilm.errors import InputError
from fmrilm.explanation.attribution import Target
from fmrilm.registry import suggest
from fmrilm.stats.kinds import HEAD
from fmrilm.tasks import Task

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Contrast:
    """What is explained, and the two groups of scans whose difference it makes."""

    answer: str
    explains: str
    groups: str
    first: np.ndarray  # (n,) bool: with the answer, or above the median
    second: np.ndarray  # (n,) bool: without it, or below
    target: Callable[[Any, str], Target]  # of a model and a prompt


def contrast_of(task: Task, labels: np.ndarray, answer: str | None = None) -> Contrast:
    """Return what is explained of a task.

    Parameters
    ----------
    task : Task
    labels : ndarray, shape (n,)
        Classes, or numbers.
    answer : str, optional
        Which of the answers; None: the last. Of a number ``head`` if the head gives it.

    Raises
    ------
    InputError
        If the answer is none of the task's.
    """
    if task.values:
        return _of_number(task, labels, answer)
    names = task.candidates
    if answer is not None and answer not in names:
        raise InputError(f"unknown answer {answer!r}{suggest(answer, names)}; one of: {names}")
    index = names.index(answer) if answer is not None else len(names) - 1
    return Contrast(
        names[index],
        f"log-odds of {names[index]}",
        f"scans whose {task.column} is {names[index]} against the others",
        labels == index,
        labels != index,
        lambda model, prompt: log_odds(model, prompt, names, index),
    )


def _of_number(task: Task, labels: np.ndarray, answer: str | None) -> Contrast:
    if answer not in (None, HEAD):
        raise InputError(
            f"task {task.name!r} asks for a number, {answer!r} is none of its answers: leave "
            f"--answer out, or explain what the head says with --answer {HEAD}"
        )
    median = float(np.median(labels))
    by_head = answer == HEAD
    return Contrast(
        "a larger number",
        f"predicted {task.column}, by {'the head' if by_head else 'words'}",
        f"scans whose {task.column} is above the median ({median:g}) against those below it",
        labels > median,
        labels < median,
        head_value if by_head else lambda model, prompt: expected_value(model, prompt, task.values),
    )


def _embed(model: Any, fmri: torch.Tensor, roi_mask: torch.Tensor) -> torch.Tensor:
    """The embeddings of scans (B, N + K, D), with gradients through the encoder.

    Where gradients are wanted, the numbers of the summary are left between their levels.
    """
    fmri, roi_mask = fmri.to(model.device), roi_mask.to(model.device)
    features = model.tokenizer.encode(fmri, roi_mask)
    if model.config.lm.fmri_input == "quantized":
        features = model.tokenizer.quantize(features, fmri, roi_mask).codes
    smooth = getattr(model.summary, "smooth", nullcontext)
    with smooth() if fmri.requires_grad else nullcontext():
        return model.project(fmri, roi_mask, features)


def log_odds(model: Any, prompt: str, candidates: Sequence[str], answer: int) -> Target:
    """Return a differentiable function from scans to the log-odds of one answer, shape (B,).

    Of its probability among the candidates, as :meth:`FMRILM.score` gives it.

    Parameters
    ----------
    model : FMRILM
    prompt : str
    candidates : sequence of str
    answer : int
        Position among the candidates.
    """
    others = [index for index in range(len(candidates)) if index != answer]

    def target(fmri: torch.Tensor, roi_mask: torch.Tensor) -> torch.Tensor:
        logp = _scores(model, prompt, candidates, fmri, roi_mask)
        return logp[:, answer] - logp[:, others].logsumexp(1)

    return target


def expected_value(model: Any, prompt: str, values: Sequence[float]) -> Target:
    """Return a differentiable function from scans to :meth:`FMRILM.expect`, shape (B,).

    Parameters
    ----------
    model : FMRILM
    prompt : str
    values : sequence of float
    """
    import torch

    numbers = [format(value, "g") for value in values]

    def target(fmri: torch.Tensor, roi_mask: torch.Tensor) -> torch.Tensor:
        logp = _scores(model, prompt, numbers, fmri, roi_mask)
        return logp.softmax(-1) @ torch.tensor(list(values), device=logp.device)

    return target


def _scores(
    model: Any,
    prompt: str,
    candidates: Sequence[str],
    fmri: torch.Tensor,
    roi_mask: torch.Tensor,
) -> torch.Tensor:
    """Return :meth:`FMRILM.score` (B, C), with gradients through the encoder."""
    from fmrilm.lm.answer_tree import answer_log_probabilities
    from fmrilm.lm.decoding import read_whole

    question = model.text.prompt_ids(prompt)
    scan = _embed(model, fmri, roi_mask)
    prefix = read_whole(model, scan, roi_mask.to(model.device), [question] * len(fmri))
    return answer_log_probabilities(model, prefix, candidates)


def head_value(model: Any, prompt: str) -> Target:
    """Return a differentiable function from scans to the value the head gives, shape (B,).

    Raises
    ------
    InputError
        If the model has no head that gives a value.
    """
    lm = model.config.lm
    if not lm.use_cls_head or lm.num_classes != 1:
        raise InputError("the run has no head that gives a number: leave --answer out")
    question = model.text.prompt_ids(prompt)

    def target(fmri: torch.Tensor, roi_mask: torch.Tensor) -> torch.Tensor:
        batch = model.text.batch([question] * len(fmri))
        with model.last_states() as states:
            model.read(
                *(batch[name].to(model.device) for name in ("input_ids", "attention_mask")),
                _embed(model, fmri, roi_mask),
                roi_mask.to(model.device),
                logits_to_keep=1,
                use_cache=False,
            )
        mean, spread = model.value_scale
        return model.head_output(states[0][:, -1])[:, 0] * spread + mean

    return target
