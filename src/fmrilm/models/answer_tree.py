"""Many answers read in one pass: a tree behind the prompt.

The tokens of all answers stand behind the prompt, those that begin alike once; each sees the prompt
and the tokens that lead to it. Differentiable, which scoring one branch per answer would be only at
the cost of a copy of the prompt's cache for each.

Tensor letters: B prompts, C answers, L tokens of the prompt, M tokens of the tree, S steps of all
answers, V text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fmrilm.models.decoding import Prefix
from fmrilm.models.masks import attention_bias

if TYPE_CHECKING:
    from fmrilm.models.reading import FMRIReader


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
        sees = [[start[: len(other)] == other for other in starts] for start in starts]
        steps = [
            (rows[tuple(ids[:at])], token, owner)
            for owner, ids in enumerate(answers)
            for at, token in enumerate(ids)
        ]
        parents, nexts, owners = torch.tensor(steps).T
        return cls(
            torch.tensor([start[-1] for start in starts], dtype=torch.long),
            torch.tensor([len(start) for start in starts], dtype=torch.long),
            torch.tensor(sees, dtype=torch.bool).view(len(starts), len(starts)),
            parents,
            nexts,
            owners,
            len(answers),
        )

    def log_probabilities(self, model: FMRIReader, prefix: Prefix) -> Tensor:
        """Return the log-probability of every answer after a prefix, shape (B, C).

        The prefix is used up: its cache holds the tree afterwards.
        """
        device, size = model.device, (len(prefix.logits), len(self.tokens))
        position = prefix.position[:, -1:] + self.depths.to(device)
        embeds = model.lm.get_input_embeddings()(self.tokens.to(device).expand(size))
        bias = attention_bias(
            position,
            torch.cat([prefix.position, position], 1),
            torch.cat([prefix.valid, torch.ones_like(position, dtype=torch.bool)], 1),
            embeds.dtype,
        )  # (B, 1, M, L + M)
        lowest = torch.finfo(bias.dtype).min
        bias[..., -size[1] :].masked_fill_(~self.sees.to(device), lowest)
        output = model.lm(
            inputs_embeds=embeds,
            attention_mask=bias,
            position_ids=position,
            past_key_values=prefix.cache,
            use_cache=True,
        )
        logits = torch.cat([prefix.logits[:, None], output.logits.float()], 1)  # (B, 1 + M, V)
        steps = logits.log_softmax(-1)[:, self.parents, self.nexts]  # (B, S)
        total = steps.new_zeros(size[0], self.count)
        return total.index_add(1, self.owners.to(device), steps)
