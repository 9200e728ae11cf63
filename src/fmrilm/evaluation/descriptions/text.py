"""How alike a generated text is to the true one: BLEU, ROUGE-L, CIDEr-D, METEOR, embeddings.

Every score is made from statistics per text that add up over texts, so that weightings of people
need no loop: a metric takes them as ``scores`` (n, len(COLUMNS)) and weights (S, n), as in
:mod:`fmrilm.stats.classification`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fmrilm.errors import InputError
from fmrilm.stats.classification import Metric

MAX_N = 4  # longest n-gram of BLEU and CIDEr
SIGMA = 6.0  # of CIDEr-D's penalty on the difference in length
HINT = "text metrics need sacrebleu and rouge-score: pip install 'fmrilm[text]'"
_TOKEN = re.compile(r"[a-z]+(?:-[a-z]+)*|-?\d+(?:\.\d+)?")


class Statistics:
    """Numbers per text that add up over texts, by name.

    Parameters
    ----------
    columns : dict of str to ndarray, shape (n,)
    """

    def __init__(self, columns: dict[str, np.ndarray]) -> None:
        self.names = list(columns)
        self.values = np.stack([np.asarray(v, dtype=float) for v in columns.values()], axis=1)

    def ratio(self, numerator: str, denominator: str) -> Metric:
        """Return the metric that is one sum over another; nan where the other is 0."""
        over, under = self.names.index(numerator), self.names.index(denominator)

        def metric(
            labels: np.ndarray, scores: np.ndarray, predicted: np.ndarray, weights: np.ndarray
        ) -> np.ndarray:
            total = weights @ scores[:, under]
            known = total > 0
            return np.where(known, weights @ scores[:, over] / np.where(known, total, 1), np.nan)

        return metric

    def bleu(self, order: int) -> Metric:
        """Return BLEU up to n-grams of ``order``: of the corpus, unsmoothed, 0 to 1."""
        at = self.names.index("matches_1")

        def metric(
            labels: np.ndarray, scores: np.ndarray, predicted: np.ndarray, weights: np.ndarray
        ) -> np.ndarray:
            totals = weights @ scores[:, at : at + 2 * MAX_N + 2]  # matches, n-grams, lengths
            matches, counts = totals[:, :order], totals[:, MAX_N : MAX_N + order]
            length, reference = totals[:, -2], totals[:, -1]
            any_missing = (matches <= 0).any(axis=1)
            precision = np.where(matches > 0, matches / np.maximum(counts, 1), 1.0)
            brevity = np.exp(np.minimum(0, 1 - reference / np.maximum(length, 1e-12)))
            return np.where(any_missing, 0.0, brevity * np.exp(np.log(precision).mean(axis=1)))

        return metric

    def correlation(self, prefix: str) -> Metric:
        """Return the correlation of pairs (x, y) whose sums are columns of that prefix."""
        at = [self.names.index(f"{prefix}_{part}") for part in ("n", "x", "y", "xx", "yy", "xy")]

        def metric(
            labels: np.ndarray, scores: np.ndarray, predicted: np.ndarray, weights: np.ndarray
        ) -> np.ndarray:
            n, x, y, xx, yy, xy = (weights @ scores[:, at]).T
            over_x, over_y = n * xx - x**2, n * yy - y**2
            known = (n > 2) & (over_y > 1e-9 * n * yy)
            varies = known & (over_x > 1e-9 * n * np.maximum(xx, 1e-12))
            value = (n * xy - x * y) / np.sqrt(np.where(varies, over_x * over_y, 1))
            return np.where(known, np.where(varies, value, 0.0), np.nan)

        return metric


def tokens(text: str) -> list[str]:
    """Return the words, hyphenated words and numbers of a text, in lower case."""
    return _TOKEN.findall(text.lower())


def overlap_statistics(texts: Sequence[str], truths: Sequence[str]) -> dict[str, np.ndarray]:
    """Return what BLEU, ROUGE-L, METEOR and CIDEr-D need of every text.

    Parameters
    ----------
    texts, truths : sequence of n str

    Raises
    ------
    InputError
        If the packages are not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise InputError(f"{HINT} ({error.name} is missing)") from None
    bleu = BLEU(max_ngram_order=MAX_N, smooth_method="none", effective_order=True)
    parts = [bleu.sentence_score(t, [r]) for t, r in zip(texts, truths, strict=True)]
    rouge = RougeScorer(["rougeL"])
    found = {f"matches_{n + 1}": np.array([p.counts[n] for p in parts]) for n in range(MAX_N)}
    found |= {f"ngrams_{n + 1}": np.array([p.totals[n] for p in parts]) for n in range(MAX_N)}
    found["length"] = np.array([p.sys_len for p in parts])
    found["true_length"] = np.array([p.ref_len for p in parts])
    pairs = list(zip(texts, truths, strict=True))
    found["rouge_l"] = np.array([rouge.score(r, t)["rougeL"].fmeasure for t, r in pairs])
    found["meteor"] = np.array([meteor(t, r) for t, r in pairs])
    found["cider"] = cider(texts, truths)
    return found


class _NoSynonyms:
    """Stands where the METEOR of nltk asks WordNet: no word has synonyms."""

    def synsets(self, word: str) -> list[Any]:
        return []


def meteor(text: str, truth: str) -> float:
    """Return METEOR with exact and stem matches, without synonyms.

    Banerjee and Lavie 2005, https://aclanthology.org/W05-0909, by nltk.
    """
    from nltk.translate.meteor_score import single_meteor_score

    found = single_meteor_score(tokens(truth), tokens(text), wordnet=_NoSynonyms())
    return float(found)


def cider(texts: Sequence[str], truths: Sequence[str]) -> np.ndarray:
    """Return CIDEr-D of every text, 0 to 10 (Vedantam et al. 2015, arXiv 1411.5726).

    n-grams are weighted by how rare they are among the true texts: what all of them say counts
    nothing. With a single text there is nothing to be rare among, and the score is 0.
    """
    grams = [[_ngrams(tokens(t)) for t in part] for part in (texts, truths)]
    frequency = Counter(gram for counts in grams[1] for gram in counts)
    log_count = np.log(len(truths))

    def weigh(counts: Counter[tuple[str, ...]]) -> list[dict[tuple[str, ...], float]]:
        vectors: list[dict[tuple[str, ...], float]] = [{} for _ in range(MAX_N)]
        for gram, count in counts.items():
            rarity = log_count - np.log(max(1, frequency[gram]))
            vectors[len(gram) - 1][gram] = count * rarity
        return vectors

    return np.array(
        [
            10 * np.mean([_cosine(a, b) for a, b in zip(weigh(t), weigh(r), strict=True)])
            * np.exp(-((_length(t) - _length(r)) ** 2) / (2 * SIGMA**2))
            for t, r in zip(*grams, strict=True)
        ]
    )  # fmt: skip


def _ngrams(words: list[str]) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(words[start : start + n])
        for n in range(1, MAX_N + 1)
        for start in range(len(words) - n + 1)
    )


def _length(counts: Counter[tuple[str, ...]]) -> int:
    return sum(count for gram, count in counts.items() if len(gram) == 2)


def _cosine(text: dict[tuple[str, ...], float], truth: dict[tuple[str, ...], float]) -> float:
    """Return the cosine in which no n-gram counts more than it occurs in the true text."""
    shared = [
        (min(value, truth[gram]), truth[gram]) for gram, value in text.items() if gram in truth
    ]
    product = sum(one * other for one, other in shared)
    size = np.sqrt(sum(v**2 for v in text.values()) * sum(v**2 for v in truth.values()))
    return float(product / size) if size > 0 else 0.0
