import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from fmrilm.evaluation.descriptions.text import Statistics, cider, meteor, overlap_statistics

TEXTS = [
    "the cat sat on the mat today",
    "a dog ran fast in the big park",
    "z = 1.27 within the default mode network",
    "connectivity is lower",
]
TRUTHS = [
    "the cat is on the mat",
    "the dog ran very fast in a park",
    "z = 1.20 within the default mode network of this scan",
    "connectivity is higher within visual",
]
WEIGHTS = np.array([[1.0, 1, 1, 1], [2, 0, 1, 1]])
ROWS = [[0, 1, 2, 3], [0, 0, 2, 3]]


@pytest.fixture(scope="module")
def statistics():
    return Statistics({"texts": np.ones(4), **overlap_statistics(TEXTS, TRUTHS)})


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_of_weighted_texts_is_that_of_sacrebleu_on_the_repeated_texts(statistics, order):
    found = statistics.bleu(order)(None, statistics.values, None, WEIGHTS)
    bleu = BLEU(max_ngram_order=order, smooth_method="none")
    for value, rows in zip(found, ROWS, strict=True):
        told, true = [TEXTS[i] for i in rows], [TRUTHS[i] for i in rows]
        assert value == pytest.approx(bleu.corpus_score(told, [true]).score / 100, abs=1e-9)


def test_bleu_is_one_for_the_true_texts_and_zero_where_nothing_is_shared():
    for texts, value in ((TRUTHS, 1.0), (["x y z w v"] * 4, 0.0)):
        found = Statistics({"texts": np.ones(4), **overlap_statistics(texts, TRUTHS)})
        assert found.bleu(4)(None, found.values, None, WEIGHTS) == pytest.approx([value] * 2)


def test_rouge_is_that_of_rouge_score(statistics):
    scorer = RougeScorer(["rougeL"])
    pairs = zip(TEXTS, TRUTHS, strict=True)
    expected = np.mean([scorer.score(r, t)["rougeL"].fmeasure for t, r in pairs])
    found = statistics.ratio("rouge_l", "texts")(None, statistics.values, None, WEIGHTS)
    assert found[0] == pytest.approx(expected)


def test_cider_agrees_with_pycocoevalcap():
    # pycocoevalcap 1.2, Cider().compute_score on the same tokens
    assert cider(TEXTS, TRUTHS) == pytest.approx(
        [3.76072937, 2.85932657, 4.5109033, 1.88952754], abs=1e-7
    )


def test_what_all_true_texts_say_counts_nothing_in_cider():
    assert cider(["the same"] * 3, ["the same"] * 3) == pytest.approx([0, 0, 0])
    assert cider(TRUTHS, TRUTHS) == pytest.approx([10] * 4)


def test_meteor_matches_stems_but_no_synonyms():
    assert meteor("networks couple", "network coupled") > 0.5
    assert meteor("higher coupling", "greater coupling") == meteor("zzz coupling", "aaa coupling")

    # By hand: all words match in one chunk, so the penalty is half of (1 chunk / 3 words) cubed.
    assert meteor("a b c", "a b c") == pytest.approx(1 - 0.5 * (1 / 3) ** 3)
    # One of two words, of one in the text: precision 1, recall 1/2, harmonic mean with 9 parts
    # recall, one chunk of one word.
    assert meteor("a", "a b") == pytest.approx(10 * 0.5 / (0.5 + 9) * 0.5)


def test_the_correlation_from_sums_is_the_plain_one_and_zero_for_a_constant():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30))
    owner = np.repeat(np.arange(6), 5)

    def sums(x):
        parts = {"n": x * 0 + 1, "x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y}
        return {f"z_{name}": np.bincount(owner, part) for name, part in parts.items()}

    found = Statistics(sums(x))
    weights = np.array([[1.0, 1, 1, 1, 1, 1], [2, 0, 1, 1, 0, 1]])
    values = found.correlation("z")(None, found.values, None, weights)
    rows = np.repeat(np.arange(30), weights[1].astype(int)[owner])
    assert values == pytest.approx([np.corrcoef(x, y)[0, 1], np.corrcoef(x[rows], y[rows])[0, 1]])
    flat = Statistics(sums(np.full(30, 0.3)))
    assert flat.correlation("z")(None, flat.values, None, weights) == pytest.approx([0, 0])
