"""Scans beside their descriptions: one space for both, and how well one finds the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from fmrilm.config.schema import TokenizerStageConfig
from fmrilm.lm.text import TextEncoder
from fmrilm.tokenizer.collectives import join_rows
from fmrilm.tokenizer.pooling import build_pool, masked_mean
from fmrilm.tokenizer.tokenizer import FMRITokenizer
from fmrilm.weights import load_exactly, read_weights

HEADS = "alignment.safetensors"


class TextAlignment(nn.Module):
    """Pull a scan's features towards the embedding of its own description.

    ``clip`` is the symmetric softmax loss of arXiv 2103.00020; ``siglip`` the pairwise sigmoid
    loss of arXiv 2303.15343. Descriptions that are the same text are positives of each other; a
    scan without a description is in no pair. The ``soft_`` kinds replace the hard targets by how
    alike the descriptions are: a softmax over their cosines (arXiv 2303.17561), or for the sigmoid
    loss the cosines, negative ones as 0.

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
        """Learn mean and spread of the descriptions' embeddings (n, text_dim); NaN: no text."""
        texts = texts[is_described(texts)]
        self.text_mean.copy_(texts.mean(0))
        self.text_sd.copy_(texts.std(0).clamp_min(1e-6))

    def similarity(self, scans: Tensor, texts: Tensor) -> Tensor:
        """Return the logits (B, B) of every scan (B, scan_dim) with every text (B, text_dim)."""
        scans = F.normalize(self.scan_proj(scans), dim=-1)
        texts = F.normalize(self.text_proj((texts - self.text_mean) / self.text_sd), dim=-1)
        return self.log_scale.clamp(max=4.6).exp() * scans @ texts.T + self.shift

    def forward(self, scans: Tensor, texts: Tensor) -> Tensor:
        """Return the alignment loss of a batch of pairs.

        Parameters
        ----------
        scans, texts : Tensor, shapes (B, scan_dim) and (B, text_dim)
            The same text has the same embedding, as :func:`embed_descriptions` makes them. NaN: a
            scan without a description, which is neither pulled to a text nor pushed from one.
        """
        described = is_described(texts)
        scans, texts = scans[described], texts[described]
        logits = self.similarity(scans, texts)
        if not len(logits):  # of no pair at all the loss is 0, with gradients
            return logits.sum() + 0.0 * (self.log_scale + self.shift)
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
        # Scans without a text are left out after joining: every process joins equally many rows.
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
        text_dim = len(read_weights(folder / HEADS)["alignment.text_mean"])
        heads = cls(tokenizer, config, text_dim)
        load_exactly(heads, folder / HEADS)
        return heads.eval()


def is_described(texts: Tensor) -> Tensor:
    """Return which rows of embeddings (n, D) are of a text, shape (n,); NaN where there is none."""
    return ~texts.isnan().any(1)


@torch.no_grad()
def embed_descriptions(
    lm: Any,
    text: TextEncoder,
    descriptions: Sequence[str],
    batch_size: int = 16,
    pooling: str = "mean",
) -> Tensor:
    """Return a last hidden state of the frozen language model for every text (n, D).

    The embedding of a text depends on the text alone: positions are counted from its own first
    token, not from the padding in front of it, and a text that occurs twice is read once.
    ``pooling`` is ``mean``, over the text's tokens, or ``last``: batches are padded on the left, so
    the last token is the last column.
    """
    lm.eval()
    rows, different = [], list(dict.fromkeys(descriptions))
    for start in range(0, len(different), batch_size):
        batch = text.batch([text.text_ids(one) for one in different[start : start + batch_size]])
        mask = batch["attention_mask"]
        states = lm.base_model(
            input_ids=batch["input_ids"],
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp_min(0),
            use_cache=False,
        ).last_hidden_state
        rows.append(states[:, -1] if pooling == "last" else masked_mean(states, mask.bool()))
    row_of = {text: row for row, text in enumerate(different)}
    return torch.cat(rows).float()[[row_of[text] for text in descriptions]]


@torch.no_grad()
def embed_words(lm: Any, text: TextEncoder, descriptions: Sequence[str]) -> Tensor:
    """Return the input embeddings (m, D) of the different tokens of the descriptions."""
    ids = sorted({i for one in descriptions for i in text.text_ids(one)})
    return lm.get_input_embeddings().weight[ids].detach().float()
