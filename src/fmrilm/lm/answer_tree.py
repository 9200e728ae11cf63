"""The one way to score an answer: the log-probability of the whole of it, its end included.

That is what training maximises, so a model trained to answer 60 to 40 scores 60 to 40, however many
tokens either answer has, and "5" is not counted for being the beginning of "52".

Many answers are read in one pass, as a tree behind the prompt: those that begin alike share their
tokens, and each token sees the prompt and the tokens that lead to it. Differentiable.

Tensor letters: B prompts, C answers, L tokens of the prompt, M tokens of the tree, S steps of all
answers, V text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fmrilm.errors import InputError
from fmrilm.lm.decoding import Prefix
from fmrilm.lm.interface import ScanReader, attention_masks
from fmrilm.registry import suggest

MAX_TOKENS = 512  # tokens of trees, over all prompts, whose logits are held at a time
NORMALISE = ("length",)


def answer_log_probabilities(
    model: ScanReader,
    prefix: Prefix,
    answers: Sequence[str],
    normalise: str | None = None,
    rows: Sequence[int] | None = None,
) -> Tensor:
    """Return the log-probability of every whole answer after a prefix, shape (B, C).

    Parameters
    ----------
    model : ScanReader
    prefix : Prefix
        Stays as it is.
    answers : sequence of C str
    normalise : str, optional
        ``length``: the mean over the answer's own tokens, its end left out, in place of the sum.
        For language models that were not trained on the answers, and do not know how they end.
    rows : sequence of int, optional
        Rows of the prefix to score after; None: all.

    Raises
    ------
    InputError
        If there is no answer, or no such way to normalise.
    """
    if normalise is not None and normalise not in NORMALISE:
        hint = suggest(normalise, list(NORMALISE))
        raise InputError(f"unknown normalise {normalise!r}{hint}; use {', '.join(NORMALISE)}")
    ids = [model.text.answer_ids(answer, end=normalise is None) for answer in answers]
    if not ids or not all(ids):
        raise InputError("no answer to score: name at least one, none of them empty")
    trees = [AnswerTree.of(part) for part in _split(ids)]
    largest = max(1, *(len(tree.tokens) for tree in trees))
    every = torch.arange(len(prefix.logits), device=model.device)
    chosen = every if rows is None else torch.tensor(rows, device=model.device)
    scores = []
    for part in chosen.split(max(1, MAX_TOKENS // largest)):
        some = prefix if torch.equal(part, every) else prefix.pick(part)
        scores.append(torch.cat([tree.log_probabilities(model, some) for tree in trees], 1))
    total = torch.cat(scores)
    if normalise is None:
        return total
    return total / torch.tensor([len(one) for one in ids], device=total.device)


def _split(answers: Sequence[list[int]]) -> list[list[list[int]]]:
    """Return the answers in parts whose tokens can be read at once."""
    parts: list[list[list[int]]] = []
    room = 0
    for ids in answers:
        if len(ids) > room:
            parts.append([])
            room = MAX_TOKENS
        parts[-1].append(ids)
        room -= len(ids)
    return parts


@dataclass(frozen=True)
class AnswerTree:
    """The tokens of several answers, a parent before its children."""

    tokens: Tensor  # (M,)
    depths: Tensor  # (M,) 1 for a first token
    sees: Tensor  # (M, M) bool: a token sees itself and those that lead to it
    parents: Tensor  # (S,) where each step is predicted: 0 the prompt, then the tokens
    nexts: Tensor  # (S,) the token it takes
    owners: Tensor  # (S,) its answer
    count: int  # C

    @classmethod
    def of(cls, answers: Sequence[Sequence[int]]) -> AnswerTree:
        """Return the tree of answers; their last tokens are predicted, never read."""
        rows: dict[tuple[int, ...], int] = {(): 0}
        for ids in answers:
            for end in range(1, len(ids)):
                rows.setdefault(tuple(ids[:end]), len(rows))
        starts = list(rows)[1:]
        sees = torch.eye(len(starts), dtype=torch.bool)
        for row, start in enumerate(starts):
            if len(start) > 1:
                sees[row] |= sees[rows[start[:-1]] - 1]
        steps = [
            (rows[tuple(ids[:at])], token, owner)
            for owner, ids in enumerate(answers)
            for at, token in enumerate(ids)
        ]
        parents, nexts, owners = torch.tensor(steps).T
        return cls(
            torch.tensor([start[-1] for start in starts], dtype=torch.long),
            torch.tensor([len(start) for start in starts], dtype=torch.long),
            sees,
            parents,
            nexts,
            owners,
            len(answers),
        )

    def log_probabilities(self, model: ScanReader, prefix: Prefix) -> Tensor:
        """Return the log-probability of every answer after a prefix, shape (B, C)."""
        total = prefix.logits.new_zeros(len(prefix.logits), self.count)
        first = self.parents == 0
        total = self._add(total, prefix.logits[:, None], self.parents, first)
        if not len(self.tokens):
            return total
        return self._add(total, self._read(model, prefix), self.parents - 1, ~first)

    def _add(self, total: Tensor, logits: Tensor, parents: Tensor, which: Tensor) -> Tensor:
        """Return ``total`` and the steps (S,) that are predicted by these logits (B, M, V)."""
        at, token, owner = (x[which].to(total.device) for x in (parents, self.nexts, self.owners))
        steps = logits[:, at, token] - logits.logsumexp(-1)[:, at]
        return total.index_add(1, owner, steps)

    def _read(self, model: ScanReader, prefix: Prefix) -> Tensor:
        """Return the logits (B, M, V) of the tree's tokens behind a prefix."""
        device, size = model.device, (len(prefix.logits), len(self.tokens))
        position = prefix.position[:, -1:] + self.depths.to(device)
        embeds = model.lm.get_input_embeddings()(self.tokens.to(device).expand(size))
        masks = attention_masks(
            model.lm,
            position,
            torch.cat([prefix.position, position], 1),
            torch.cat([prefix.valid, torch.ones_like(position, dtype=torch.bool)], 1),
            embeds.dtype,
        )  # (B, 1, M, L + M)
        lowest = torch.finfo(embeds.dtype).min
        for mask in masks.values() if isinstance(masks, dict) else [masks]:
            mask[..., -size[1] :].masked_fill_(~self.sees.to(device), lowest)
        output = model.lm(
            inputs_embeds=embeds,
            attention_mask=masks,
            position_ids=position,
            cache=prefix.fixed_cache(),
            use_cache=True,
        )
        return output.logits.float()
