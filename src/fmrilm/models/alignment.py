"""Scans beside their descriptions: one space for both, and how well one finds the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fmrilm.config import TokenizerStageConfig
from fmrilm.models.pooling import build_pool, masked_mean
from fmrilm.models.processes import join_rows
from fmrilm.models.text import TextEncoder
from fmrilm.models.tokenizer import FMRITokenizer

HEADS = "alignment.safetensors"


class TextAlignment(nn.Module):
    """Pull a scan's features towards the embedding of its own description.

    ``clip`` is the symmetric softmax loss of arXiv 2103.00020; ``siglip`` the pairwise sigmoid
    loss of arXiv 2303.15343. Descriptions that are the same text are positives of each other. The
    ``soft_`` kinds replace the hard targets by how alike the descriptions are: a softmax over their
    cosines (arXiv 2303.17561), or for the sigmoid loss the cosines, negative ones as 0.

    Descriptions share most of their wording: what they share is taken out, as learned from the
    training scans (:meth:`fit`), so that the loss sees where they differ.

    Parameters
    ----------
    scan_dim, text_dim : int
        Widths of the two sides.
    dim : int
        Width of the shared space.
    kind : str
        ``clip``, ``siglip``, ``soft_clip`` or ``soft_siglip``.
    """

    temperature = 0.1  # of the soft targets of ``soft_clip``

    def __init__(self, scan_dim: int, text_dim: int, dim: int = 512, kind: str = "siglip") -> None:
        super().__init__()
        self.kind = kind
        self.scan_proj = nn.Linear(scan_dim, dim)
        self.text_proj = nn.Linear(text_dim, dim)
        self.text_mean: Tensor
        self.register_buffer("text_mean", torch.zeros(text_dim))
        self.text_sd: Tensor
        self.register_buffer("text_sd", torch.ones(text_dim))
        # The learned temperature is kept as a logarithm, so that it stays positive.
        self.log_scale = nn.Parameter(torch.tensor(10.0 if self.is_pairwise else 1 / 0.07).log())
        self.shift = nn.Parameter(torch.tensor(-10.0 if self.is_pairwise else 0.0))

    @property
    def is_pairwise(self) -> bool:
        """Whether every pair is judged by itself (sigmoid) or against the batch (softmax)."""
        return self.kind.endswith("siglip")

    @torch.no_grad()
    def fit(self, texts: Tensor) -> None:
        """Learn mean and spread of the descriptions' embeddings (n, text_dim)."""
        self.text_mean.copy_(texts.mean(0))
        self.text_sd.copy_(texts.std(0).clamp_min(1e-6))

    def similarity(self, scans: Tensor, texts: Tensor) -> Tensor:
        """Return the logits (B, B) of every scan (B, scan_dim) with every text (B, text_dim)."""
        scans = F.normalize(self.scan_proj(scans), dim=-1)
        texts = F.normalize(self.text_proj((texts - self.text_mean) / self.text_sd), dim=-1)
        return self.log_scale.clamp(max=4.6).exp() * scans @ texts.T + self.shift

    def forward(self, scans: Tensor, texts: Tensor) -> Tensor:
        """Return the alignment loss of a batch of pairs."""
        logits = self.similarity(scans, texts)
        same = (texts[:, None] == texts[None, :]).all(-1)
        alike = F.normalize((texts - self.text_mean) / self.text_sd, dim=-1)
        alike = alike @ alike.T
        if self.kind == "siglip":
            return -F.logsigmoid(torch.where(same, logits, -logits)).sum(1).mean()
        if self.kind == "soft_siglip":
            target = torch.where(same, 1.0, alike.clamp(0, 1))
            return (
                F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()
            )
        target = same / same.sum(1, keepdim=True)
        if self.kind == "soft_clip":
            target = (alike / self.temperature).softmax(1)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class AlignmentHeads(nn.Module):
    """What stage 1 trains beside the tokenizer: pooling of a scan's tokens, and the shared space.

    Parameters
    ----------
    tokenizer : FMRITokenizer
    config : TokenizerStageConfig
    text_dim : int
        Width of the descriptions' embeddings.
    """

    def __init__(
        self, tokenizer: FMRITokenizer, config: TokenizerStageConfig, text_dim: int
    ) -> None:
        super().__init__()
        width, _, heads = tokenizer.config.size
        per_step = tokenizer.config.tokens_per_step
        self.pool = build_pool(config.pooling, width, heads, per_step)
        self.alignment = TextAlignment(width, text_dim, config.clip_dim, config.clip_loss_type)

    def forward(self, features: Tensor, valid: Tensor, texts: Tensor) -> Tensor:
        """Return the loss of tokens (B, N, D) and the embeddings of their texts (B, text_dim).

        Where several processes train together a scan is told from the texts of all of them.
        """
        return self.alignment(join_rows(self.pool(features, valid)), join_rows(texts))

    def save(self, folder: Path) -> None:
        """Write the heads beside the tokenizer."""
        state = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_file(state, folder / HEADS)

    @classmethod
    def load(
        cls, folder: Path, tokenizer: FMRITokenizer, config: TokenizerStageConfig
    ) -> AlignmentHeads:
        """Return what :meth:`save` wrote, in evaluation mode."""
        state = load_file(folder / HEADS)
        heads = cls(tokenizer, config, len(state["alignment.text_mean"]))
        heads.load_state_dict(state)
        return heads.eval()


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
