import torch

from fmrilm.lm.embedding.ngrams import NgramEmbedder

PAIRS = ["visual-default", "limbic-salience", "visual-limbic", "default-salience"]
TEXTS = [f"Coupling differs for {a} (z = {x}), {b} (z = {y})."
         for a in PAIRS for b in PAIRS for x in (2, -2) for y in (1, -1)]  # fmt: skip


def test_the_sign_of_a_number_belongs_to_its_phrase():
    embedder = NgramEmbedder(40).fit(TEXTS)
    one, same, other = embedder.embed(
        [f"Coupling differs for visual-default (z = {z})." for z in ("2.1", "2.7", "-2.1")]
    )
    assert torch.equal(one, same)  # the first digit counts
    assert torch.cosine_similarity(one, other, dim=0) < 0.9


def test_embeddings_are_the_same_when_read_again(tmp_path):
    embedder = NgramEmbedder(8).fit(TEXTS)
    embedder.save(tmp_path)
    expected = embedder.embed(TEXTS[:5])
    torch.testing.assert_close(NgramEmbedder.load(tmp_path).embed(TEXTS[:5]), expected)
    assert expected.shape == (5, 8)
