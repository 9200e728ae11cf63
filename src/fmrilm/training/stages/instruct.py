"""Stage 3: the model learns to answer questions about scans."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fmrilm.lm.fmrilm import FMRILM
from fmrilm.lm.text import IGNORED
from fmrilm.training.data.features import ScanFeatures
from fmrilm.training.data.readers import Evidence
from fmrilm.training.objective import Objective


class InstructObjective(Objective):
    """Cross-entropy of the answers.

    Parameters
    ----------
    model : FMRILM
    scans : ScanFeatures
    evidence : Evidence, optional
        What is said of training scans in place of the readers of the model.
    """

    def __init__(
        self, model: FMRILM, scans: ScanFeatures, evidence: Evidence | None = None
    ) -> None:
        super().__init__()
        self.model, self.base = model, model.base
        self._scans = [scans]  # in a list: no module, it is neither trained nor saved
        self._evidence = evidence

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``loss``, the mean over answer tokens; with a head also its part, by name."""
        model = self.model
        features, _ = self._scans[0].of(batch)
        told = nullcontext() if self._evidence is None else self._evidence.of(batch)
        with model.last_states() as states, told:
            text_loss = model.text_loss(batch, features)
        if model.cls_head is None:
            return {"loss": text_loss}
        # The head reads the last token of the question, which no answer has been seen from.
        # Counted from the end: tokens of the scan may have been left out.
        last = (batch["labels"] != IGNORED).int().argmax(1) - 1 - batch["labels"].shape[1]
        output = model.head_output(states[0][torch.arange(len(last)), last])
        head_loss = self._head_loss(output.float(), batch)
        return {"loss": text_loss + head_loss, "text_loss": text_loss, "head_loss": head_loss}

    @property
    def weights(self) -> dict[str, float]:
        """Weight of the answers' loss and of the head's, if there is one."""
        head = self.model.cls_head
        return {"loss": 1.0} if head is None else {"text_loss": 1.0, "head_loss": 1.0}

    def prepare(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return a batch, and over how many tokens or scans each loss is the mean in it."""
        answers = (batch["labels"][:, 1:] != IGNORED).sum()
        scans = torch.tensor(len(batch["labels"]), device=answers.device)
        return dict(batch), {"loss": answers, "text_loss": answers, "head_loss": scans}

    def _head_loss(self, output: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        if output.shape[1] > 1:
            return F.cross_entropy(output, batch["class_index"])
        mean, spread = self.model.value_scale
        return F.mse_loss(output[:, 0], (batch["value"] - mean) / spread)

    def export(self, folder: Path) -> None:
        """Write the model."""
        self.model.save_pretrained(folder)
