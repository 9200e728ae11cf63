"""Stage 2: the language model learns to read scans, on pairs of scan and description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fmrilm.config import AlignConfig
from fmrilm.models.codes import text_and_codes_loss, text_to_codes_loss
from fmrilm.models.fmrilm import FMRILM
from fmrilm.training.scans import ScanFeatures
from fmrilm.training.trainer import Objective


class AlignObjective(Objective):
    """Weighted sum of fMRI-to-text, fMRI-only, text-only and text-to-fMRI language modelling.

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
        features, codes = self._scans[0].of(batch)
        parts: dict[str, Tensor] = {}
        wants_text, wants_codes = config.fmri2text_weight > 0, config.fmri_only_weight > 0
        if wants_text and wants_codes and model.tokenizer.config.token_steps > 1:
            # Both read the scan as it is: one pass serves the two.
            both = text_and_codes_loss(model, batch, features, codes)
            parts["fmri2text_loss"], parts["fmri_only_loss"] = both
        elif wants_text:
            parts["fmri2text_loss"] = model.text_loss(batch, features)
        if wants_codes and "fmri_only_loss" not in parts:
            parts["fmri_only_loss"] = model.code_loss(
                batch["fmri"], batch["roi_mask"], config.mask_ratio, features, codes
            )
        if config.text_only_weight > 0:
            parts["text_only_loss"] = model(
                batch["text_input_ids"], batch["text_attention_mask"], batch["text_labels"]
            )
        if config.text2fmri_weight > 0:
            parts["text2fmri_loss"] = text_to_codes_loss(
                model,
                batch["request_input_ids"],
                batch["request_attention_mask"],
                codes,
                batch["roi_mask"],
            )
        loss = features.new_zeros(())
        for name, value in parts.items():
            loss = loss + getattr(config, name.replace("_loss", "_weight")) * value
        return {"loss": loss, **parts}

    def export(self, folder: Path) -> None:
        """Write the model."""
        self.model.save_pretrained(folder)
