"""Stage 2: the language model learns to read scans, on pairs of scan and description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fmrilm.config.schema import AlignConfig
from fmrilm.errors import InputError
from fmrilm.lm.codes import text_and_codes_loss, text_to_codes_loss
from fmrilm.lm.fmrilm import FMRILM
from fmrilm.lm.text import IGNORED
from fmrilm.training.data.features import ScanFeatures
from fmrilm.training.objective import Objective

PARTS = ("fmri2text_loss", "fmri_only_loss", "text_only_loss", "text2fmri_loss")


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
        self.model, self.base = model, model.base
        self.config = config
        if not self.weights:
            raise InputError("all weights of stage align are 0: set align.fmri2text_weight")
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
            masked = batch.get("masked", config.mask_ratio)
            parts["fmri_only_loss"] = model.code_loss(
                batch["fmri"], batch["roi_mask"], masked, features, codes
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
        for name, weight in self.weights.items():
            loss = loss + weight * parts[name]
        return {"loss": loss, **parts}

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every loss that is computed."""
        every = {name: getattr(self.config, name.replace("_loss", "_weight")) for name in PARTS}
        return {name: weight for name, weight in every.items() if weight > 0}

    def prepare(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return a batch with its masked tokens drawn, and how many tokens each loss is over."""
        tokenizer = self.model.tokenizer
        valid = tokenizer.token_mask(batch["roi_mask"])
        if tokenizer.config.token_steps > 1:  # of every token the next one
            predicted = valid[:, tokenizer.config.tokens_per_step :]
        else:
            masked = torch.rand(valid.shape, device=valid.device) < self.config.mask_ratio
            batch, predicted = {**batch, "masked": masked}, valid & masked
        counts = {"fmri_only_loss": predicted.sum(), "text2fmri_loss": valid.sum()}
        for name, labels in (("fmri2text_loss", "labels"), ("text_only_loss", "text_labels")):
            counts[name] = (batch[labels][:, 1:] != IGNORED).sum()
        return dict(batch), counts

    def export(self, folder: Path) -> None:
        """Write the model."""
        self.model.save_pretrained(folder)
