"""Stage 1: reconstruction, quantization, alignment with descriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fmrilm.config import TokenizerStageConfig
from fmrilm.models.lm import save_language_model
from fmrilm.models.losses import TextAlignment, connectivity_loss, reconstruction_loss
from fmrilm.models.quantizers import VectorQuantizer
from fmrilm.models.text import TextEncoder
from fmrilm.models.tokenizer import FMRITokenizer
from fmrilm.training.trainer import Objective


class TokenizerObjective(Objective):
    """Train an fMRI tokenizer.

    Parameters
    ----------
    tokenizer : FMRITokenizer
    config : TokenizerStageConfig
    text_embeddings : Tensor, shape (n, D), optional
        Embedding of the description of every scan, train and validation alike, by its place in
        ``description_of``. None: no alignment with text.
    language_model : tuple, optional
        The language model and text tokenizer that made the embeddings; exported with the tokenizer
        where it was made here, so that stage 2 goes on with the same one.
    """

    def __init__(
        self,
        tokenizer: FMRITokenizer,
        config: TokenizerStageConfig,
        text_embeddings: Tensor | None = None,
        language_model: tuple[Any, Any] | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.config = config
        self._language_model = language_model
        self.alignment: nn.Module | None = None
        self.text_embeddings: Tensor | None
        self.register_buffer("text_embeddings", text_embeddings, persistent=False)
        if text_embeddings is not None and config.clip_weight > 0:
            self.alignment = TextAlignment(
                tokenizer.config.size[0],
                text_embeddings.shape[1],
                config.clip_dim,
                config.clip_loss_type,
            )

    @torch.no_grad()
    def start(self, loader: DataLoader, per_code: int = 8) -> None:
        """Learn what is fitted rather than trained, from the training scans.

        The mean connectivity, and the codebook's start: k-means over the features.
        """
        self.eval()
        if self.tokenizer.config.roi_profile:
            self.tokenizer.fit_profiles((batch["fmri"], batch["roi_mask"]) for batch in loader)
        quantizer = self.tokenizer.quantizer
        if not isinstance(quantizer, VectorQuantizer):
            return
        vectors: list[Tensor] = []
        for batch in loader:
            features = self.tokenizer.encode(batch["fmri"], batch["roi_mask"])
            vectors.append(features[self.tokenizer.token_mask(batch["roi_mask"])])
            if sum(map(len, vectors)) >= per_code * quantizer.codebook_size:
                break
        quantizer.init_codebook(torch.cat(vectors))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted sum ``loss`` and its parts, and how the codebook is used."""
        roi_mask = batch["roi_mask"]
        output = self.tokenizer(batch["fmri"], roi_mask)
        valid = self.tokenizer.token_mask(roi_mask)
        parts = {
            "rec_loss": reconstruction_loss(
                output.reconstruction, batch["fmri"], roi_mask, self.config.rec_loss
            ),
            "commit_loss": output.quantized.loss,
        }
        loss = parts["rec_loss"] + parts["commit_loss"]
        if self.config.fc_weight > 0:
            parts["fc_loss"] = connectivity_loss(output.reconstruction, batch["fmri"], roi_mask)
            loss = loss + self.config.fc_weight * parts["fc_loss"]
        if self.config.profile_weight > 0 and self.tokenizer.config.roi_profile:
            parts["profile_loss"] = self.profile_loss(output.features, batch["fmri"], roi_mask)
            loss = loss + self.config.profile_weight * parts["profile_loss"]
        if self.alignment is not None and self.text_embeddings is not None:
            pooled = masked_mean(output.features, valid)
            parts["clip_loss"] = self.alignment(pooled, self.text_embeddings[batch["description"]])
            loss = loss + self.config.clip_weight * parts["clip_loss"]
        with torch.no_grad():
            parts |= codebook_health(output.quantized.indices[valid], self.tokenizer.codebook_size)
        return {"loss": loss, **parts}

    def profile_loss(self, features: Tensor, fmri: Tensor, roi_mask: Tensor) -> Tensor:
        """Return the error of each region's connectivity profile as read from its token."""
        predicted = self.tokenizer.predict_profiles(features)  # (B, S, R, R)
        pairs = (roi_mask[:, :, None] & roi_mask[:, None, :])[:, None].to(predicted.dtype)
        error = (predicted - self.tokenizer.profiles(fmri, roi_mask)) * pairs
        return error.square().sum() / (predicted.shape[1] * pairs.sum()).clamp_min(1)

    def export(self, folder: Path) -> None:
        """Write the tokenizer, and the language model it is aligned with where that is ours."""
        self.tokenizer.save_pretrained(folder)
        if self._language_model is not None:
            save_language_model(*self._language_model, folder / "lm")


def masked_mean(features: Tensor, valid: Tensor) -> Tensor:
    """Return the mean (B, D) of the valid tokens of (B, N, D)."""
    weight = valid.to(features.dtype)
    return (features * weight[:, :, None]).sum(1) / weight.sum(1, keepdim=True).clamp_min(1)


def codebook_health(indices: Tensor, codebook_size: int) -> dict[str, Tensor]:
    """Return the share of codes in use and the perplexity, within one batch of indices."""
    count = torch.bincount(indices.flatten(), minlength=codebook_size).float()
    share = count / count.sum().clamp_min(1)
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return {"codes_in_batch": (count > 0).float().mean(), "perplexity": entropy.exp()}


@torch.no_grad()
def embed_descriptions(
    lm: Any, text: TextEncoder, descriptions: Sequence[str], batch_size: int = 16
) -> Tensor:
    """Return the mean last hidden state of the frozen language model for every text (n, D)."""
    lm.eval()
    rows = []
    for start in range(0, len(descriptions), batch_size):
        ids = [text.text_ids(one) for one in descriptions[start : start + batch_size]]
        batch = text.batch(ids)
        states = lm.base_model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).last_hidden_state
        rows.append(masked_mean(states, batch["attention_mask"].bool()))
    return torch.cat(rows).float()
