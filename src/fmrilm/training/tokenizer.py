"""Stage 1: reconstruction, quantization, alignment with descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fmrilm.config import TokenizerStageConfig
from fmrilm.errors import InputError
from fmrilm.models.domain import DomainConfusion, ramp
from fmrilm.models.lm import save_language_model
from fmrilm.models.losses import (
    TextAlignment,
    connectivity_loss,
    reconstruction_loss,
    spectral_loss,
)
from fmrilm.models.masks import pair_mask
from fmrilm.models.pooling import build_pool, masked_mean
from fmrilm.models.text import TextEncoder
from fmrilm.models.tokenizer import FMRITokenizer
from fmrilm.training.trainer import Objective

HEADS = "alignment.safetensors"


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
    word_embeddings : Tensor, shape (m, D), optional
        Input embeddings of the descriptions' words: the text side of domain confusion.
    planned_scans : int
        Scans that all epochs will show, over all processes: how far training has come sets the
        strength of the gradient reversal.
    """

    def __init__(
        self,
        tokenizer: FMRITokenizer,
        config: TokenizerStageConfig,
        text_embeddings: Tensor | None = None,
        language_model: tuple[Any, Any] | None = None,
        word_embeddings: Tensor | None = None,
        planned_scans: int = 1,
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
        width, _, heads = tokenizer.config.size
        self.pool = build_pool(config.pooling, width, heads)
        self.domain: DomainConfusion | None = None
        self.word_embeddings: Tensor | None
        self.register_buffer("word_embeddings", word_embeddings, persistent=False)
        if config.domain_weight > 0:
            if word_embeddings is None:
                raise InputError(
                    "tokenizer.domain_weight needs the words of descriptions: set clip_weight > 0"
                )
            self.domain = DomainConfusion(width, word_embeddings.shape[1])
            self.planned_scans = planned_scans
            self.scans_seen: Tensor
            self.register_buffer("scans_seen", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def start(self, loader: DataLoader, per_code: int = 8, at_least: int = 40_000) -> None:
        """Learn what is fitted rather than trained, from the training scans.

        The mean connectivity, the linear code that training goes on from (``data_start``), and the
        codebook's start: k-means over ``per_code`` vectors per code, and ``at_least`` so many.
        """
        self.eval()

        def scans() -> Iterator[tuple[Tensor, Tensor]]:
            return ((batch["fmri"], batch["roi_mask"]) for batch in loader)

        tokenizer, quantizer = self.tokenizer, self.tokenizer.quantizer
        if tokenizer.config.roi_profile:
            tokenizer.fit_profiles(scans())
        count = max(per_code * quantizer.start_vectors, at_least)
        if tokenizer.linear is not None:
            tokenizer.fit_linear(scans, count)
        elif quantizer.start_vectors:
            vectors: list[Tensor] = []
            for fmri, roi_mask in scans():
                features = tokenizer.encode(fmri, roi_mask)
                vectors.append(features[tokenizer.token_mask(roi_mask)])
                if sum(map(len, vectors)) >= count:
                    break
            quantizer.init_codebook(torch.cat(vectors))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted sum ``loss`` and its parts, and how the codebook is used."""
        roi_mask = batch["roi_mask"]
        if self.domain is not None and self.training:
            world = dist.get_world_size() if dist.is_initialized() else 1
            self.scans_seen += len(roi_mask) * world
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
        if self.config.spectral_weight > 0:
            parts["spectral_loss"] = spectral_loss(output.reconstruction, batch["fmri"], roi_mask)
            loss = loss + self.config.spectral_weight * parts["spectral_loss"]
        if self.domain is not None:
            parts["domain_loss"] = self.domain_loss(output.features[valid])
            loss = loss + self.config.domain_weight * parts["domain_loss"]
        if self.reads_profiles:
            parts["profile_loss"] = self.profile_loss(output.features, batch["fmri"], roi_mask)
            loss = loss + self.config.profile_weight * parts["profile_loss"]
        if self.alignment is not None and self.text_embeddings is not None:
            pooled = self.pool(output.features, valid)
            parts["clip_loss"] = self.alignment(pooled, self.text_embeddings[batch["description"]])
            loss = loss + self.config.clip_weight * parts["clip_loss"]
        with torch.no_grad():
            parts |= codebook_health(output.quantized.indices[valid], self.tokenizer.codebook_size)
        return {"loss": loss, **parts}

    def domain_loss(self, tokens: Tensor, at_most: int = 1024) -> Tensor:
        """Return the loss of telling tokens (n, D) from as many words, at most ``at_most``."""
        assert self.domain is not None
        assert self.word_embeddings is not None
        count = min(at_most, len(tokens), len(self.word_embeddings))
        chosen = torch.randperm(len(tokens), device=tokens.device)[:count]
        words = torch.randperm(len(self.word_embeddings), device=tokens.device)[:count]
        strength = ramp(min(1.0, int(self.scans_seen) / self.planned_scans))
        return self.domain(tokens[chosen], self.word_embeddings[words], strength)

    @property
    def reads_profiles(self) -> bool:
        """Whether tokens, one per region, are asked for their region's connectivity."""
        is_asked = self.config.profile_weight > 0 and self.tokenizer.config.roi_profile
        return is_asked and self.tokenizer.has_region_tokens

    def profile_loss(self, features: Tensor, fmri: Tensor, roi_mask: Tensor) -> Tensor:
        """Return the error of each region's connectivity profile as read from its token."""
        predicted = self.tokenizer.predict_profiles(features)  # (B, S, R, R)
        pairs = pair_mask(roi_mask)[:, None].to(predicted.dtype)
        error = (predicted - self.tokenizer.profiles(fmri, roi_mask)) * pairs
        return error.square().sum() / (predicted.shape[1] * pairs.sum()).clamp_min(1)

    def export(self, folder: Path) -> None:
        """Write the tokenizer, its heads of alignment, and the language model if it is ours."""
        self.tokenizer.save_pretrained(folder)
        if self.alignment is not None:
            heads = nn.ModuleDict({"alignment": self.alignment, "pool": self.pool})
            save_file({k: v.contiguous() for k, v in heads.state_dict().items()}, folder / HEADS)
        if self._language_model is not None:
            save_language_model(*self._language_model, folder / "lm")


def codebook_health(indices: Tensor, codebook_size: int) -> dict[str, Tensor]:
    """Return the share of codes in use and the perplexity, within one batch of indices."""
    count = torch.bincount(indices.flatten(), minlength=codebook_size).float()
    share = count / count.sum().clamp_min(1)
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return {"codes_in_batch": (count > 0).float().mean(), "perplexity": entropy.exp()}


@torch.no_grad()
def embed_descriptions(
    lm: Any,
    text: TextEncoder,
    descriptions: Sequence[str],
    batch_size: int = 16,
    pooling: str = "mean",
) -> Tensor:
    """Return a last hidden state of the frozen language model for every text (n, D).

    ``pooling`` is ``mean``, over the text's tokens, or ``last``: batches are padded on the left, so
    the last token is the last column.
    """
    lm.eval()
    rows = []
    for start in range(0, len(descriptions), batch_size):
        ids = [text.text_ids(one) for one in descriptions[start : start + batch_size]]
        batch = text.batch(ids)
        states = lm.base_model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).last_hidden_state
        if pooling == "last":
            rows.append(states[:, -1])
        else:
            rows.append(masked_mean(states, batch["attention_mask"].bool()))
    return torch.cat(rows).float()


@torch.no_grad()
def embed_words(lm: Any, text: TextEncoder, descriptions: Sequence[str]) -> Tensor:
    """Return the input embeddings (m, D) of the different tokens of the descriptions."""
    ids = sorted({i for one in descriptions for i in text.text_ids(one)})
    return lm.get_input_embeddings().weight[ids].detach().float()
