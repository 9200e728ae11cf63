"""Embeddings of descriptions without a language model: which phrases a text is made of.

Latent semantic analysis (Deerwester et al. 1990): counts of phrases of one to four words, weighted
by their rarity, in the leading components of the training texts. Descriptions tell which pair of
networks is how far from usual; a phrase holds the pair and its number together, which the mean of
an untrained language model's states does not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmrilm.readers import read_json, reading

WORD = r"[a-z]+(?:-[a-z]+)*|-?(?<![\d.])\d"  # words, and the sign and first digit of numbers
FILE = "ngrams.json"


class NgramEmbedder:
    """Phrases of training texts, as numbers.

    Parameters
    ----------
    dim : int
        Components kept, fewer if there are fewer training texts.
    """

    def __init__(self, dim: int = 128) -> None:
        self.dim = dim

    def fit(self, texts: Sequence[str]) -> NgramEmbedder:
        """Learn phrases, their rarity and the components from training texts."""
        from sklearn.decomposition import TruncatedSVD

        self.vectorizer_ = _vectorizer(min_df=min(3, len(texts)))
        counts = self.vectorizer_.fit_transform(texts)
        size = max(1, min(self.dim, min(counts.shape) - 1))
        self.components_ = TruncatedSVD(size, random_state=0).fit(counts).components_
        return self

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings (n, dim) of texts; the same text has the same one, bit by bit."""
        different = list(dict.fromkeys(texts))
        rows = np.asarray(self.vectorizer_.transform(different) @ self.components_.T)
        row_of = {text: row for row, text in enumerate(different)}
        return torch.from_numpy(rows[[row_of[text] for text in texts]]).float()

    def save(self, folder: Path) -> None:
        """Write ``ngrams.json``."""
        content = {
            "phrases": self.vectorizer_.get_feature_names_out().tolist(),
            "idf": self.vectorizer_.idf_.tolist(),
            "components": self.components_.tolist(),
        }
        (folder / FILE).write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> NgramEmbedder:
        """Return what :meth:`save` wrote."""
        content = read_json(folder / FILE)
        with reading(folder / FILE):
            embedder = cls(len(content["components"]))
            embedder.vectorizer_ = _vectorizer(vocabulary=content["phrases"])
            embedder.vectorizer_.idf_ = np.array(content["idf"], float)
            embedder.components_ = np.array(content["components"], float)
        return embedder


def _vectorizer(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 4), sublinear_tf=True, token_pattern=WORD, **options)
