"""Stage 1: reconstruction, quantization, alignment with descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader

from fmrilm.config.schema import TokenizerStageConfig
from fmrilm.errors import InputError
from fmrilm.lm.embedding.descriptions import AlignmentHeads
from fmrilm.lm.embedding.ngrams import NgramEmbedder
from fmrilm.lm.language_models import note_language_model, save_language_model
from fmrilm.tokenizer.domain import DomainConfusion, ramp
from fmrilm.tokenizer.losses import connectivity_loss, reconstruction_loss, spectral_loss
from fmrilm.tokenizer.masks import pair_mask
from fmrilm.tokenizer.tokenizer import FMRITokenizer
from fmrilm.training.objective import Objective


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
    train_texts : int, optional
        How many of ``text_embeddings`` are of training scans, which come first; None: all.
    """

    def __init__(
        self,
        tokenizer: FMRITokenizer,
        config: TokenizerStageConfig,
        text_embeddings: Tensor | None = None,
        language_model: tuple[Any, Any] | None = None,
        word_embeddings: Tensor | None = None,
        planned_scans: int = 1,
        train_texts: int | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.config = config
        self._language_model = language_model
        self.ngrams: NgramEmbedder | None = None  # made the embeddings, in place of the model
        self.heads: AlignmentHeads | None = None
        self.text_embeddings: Tensor | None
        self.register_buffer("text_embeddings", text_embeddings, persistent=False)
        if text_embeddings is not None and config.clip_weight > 0:
            self.heads = AlignmentHeads(tokenizer, config, text_embeddings.shape[1])
            self.heads.alignment.fit(text_embeddings[:train_texts])
        width = tokenizer.config.size[0]
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
            quantizer.init_codebook(torch.cat(vectors)[:count])

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
        if self.heads is not None and self.text_embeddings is not None:
            texts = self.text_embeddings[batch["description"]]
            parts["clip_loss"] = self.heads(output.features, valid, texts)
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
        if self.heads is not None:
            self.heads.save(folder)
        if self.ngrams is not None:
            self.ngrams.save(folder)
        if self._language_model is not None:
            save_language_model(*self._language_model, folder / "lm", self.base)
        elif self.base is not None:
            note_language_model(folder / "lm", self.base)


def codebook_health(indices: Tensor, codebook_size: int) -> dict[str, Tensor]:
    """Return the share of codes in use and the perplexity, within one batch of indices."""
    count = torch.bincount(indices.flatten(), minlength=codebook_size).float()
    share = count / count.sum().clamp_min(1)
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return {"codes_in_batch": (count > 0).float().mean(), "perplexity": entropy.exp()}
