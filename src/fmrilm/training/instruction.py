"""Stage 3: the model learns to answer questions about scans."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fmrilm.models.fmrilm import FMRILM
from fmrilm.training.scans import ScanFeatures
from fmrilm.training.trainer import Objective


class InstructObjective(Objective):
    """Cross-entropy of the answers.

    Parameters
    ----------
    model : FMRILM
    scans : ScanFeatures
    """

    def __init__(self, model: FMRILM, scans: ScanFeatures) -> None:
        super().__init__()
        self.model = model
        self._scans = [scans]  # in a list: no module, it is neither trained nor saved

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``loss``, the mean over answer tokens."""
        loss = self.model(
            batch["input_ids"],
            batch["attention_mask"],
            batch["labels"],
            roi_mask=batch["roi_mask"],
            features=self._scans[0].of(batch),
        )
        return {"loss": loss}

    def export(self, folder: Path) -> None:
        """Write the model."""
        self.model.save_pretrained(folder)
