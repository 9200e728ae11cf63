"""Stage 2: the language model learns to read scans, on pairs of scan and description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fmrilm.config import AlignConfig
from fmrilm.models.fmrilm import FMRILM
from fmrilm.training.scans import ScanFeatures
from fmrilm.training.trainer import Objective


class AlignObjective(Objective):
    """Weighted sum of fMRI-to-text, fMRI-only and text-only language modelling.

    Parameters
    ----------
    model : FMRILM
    config : AlignConfig
        The weights; an objective of weight 0 is not computed.
    scans : ScanFeatures
    """

    def __init__(self, model: FMRILM, config: AlignConfig, scans: ScanFeatures) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self._scans = [scans]  # in a list: no module, it is neither trained nor saved

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``loss`` and its parts."""
        model, config = self.model, self.config
        features = self._scans[0].of(batch)
        parts: dict[str, Tensor] = {}
        loss = features.new_zeros(())
        if config.fmri2text_weight > 0:
            parts["fmri2text_loss"] = model(
                batch["input_ids"],
                batch["attention_mask"],
                batch["labels"],
                roi_mask=batch["roi_mask"],
                features=features,
            )
            loss = loss + config.fmri2text_weight * parts["fmri2text_loss"]
        if config.fmri_only_weight > 0:
            parts["fmri_only_loss"] = model.code_loss(
                batch["fmri"], batch["roi_mask"], config.mask_ratio, features
            )
            loss = loss + config.fmri_only_weight * parts["fmri_only_loss"]
        if config.text_only_weight > 0:
            parts["text_only_loss"] = model(
                batch["text_input_ids"], batch["text_attention_mask"], batch["text_labels"]
            )
            loss = loss + config.text_only_weight * parts["text_only_loss"]
        return {"loss": loss, **parts}

    def export(self, folder: Path) -> None:
        """Write the model."""
        self.model.save_pretrained(folder)
