"""What a stage trains, and where its training stands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fmrilm.lm.language_models import BaseModel


class Objective(nn.Module):
    """The losses of one stage over the networks it trains."""

    base: BaseModel | None = None  # the language model in it, as it was before any training here
    processor: Any = None  # what prepares scans for it; saved beside the weights

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``loss``, and whatever else should be logged, by name; all scalars.

        ``loss`` is the sum of the parts by their :attr:`weights`.
        """
        raise NotImplementedError

    @property
    def weights(self) -> dict[str, float]:
        """Weight in ``loss`` of every part that is a mean over its own number of targets."""
        return {"loss": 1.0}

    def prepare(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return a batch and over how many targets each part of :attr:`weights` is the mean in it.

        Asked for where several batches or processes share an update. What decides the number of
        targets and is drawn at random is put into the batch.
        """
        return dict(batch), {"loss": torch.tensor(len(batch["position"]))}

    def export(self, folder: Path) -> None:
        """Write the trained model so that ``from_pretrained`` reads it."""
        raise NotImplementedError


@dataclass
class State:
    """Where training stands; saved and restored with the checkpoint."""

    epoch: int = 0
    step: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    run: str = ""  # which run a checkpoint is of
