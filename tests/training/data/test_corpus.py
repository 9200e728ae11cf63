import numpy as np
import pytest
import torch

from fmrilm.errors import InputError
from fmrilm.lm.text import train_text_tokenizer
from fmrilm.training.data.corpus import WORDNET, Corpus, corpus, wordnet_glosses, write_corpus

TEXT = "The cortex is folded.\n\nThe thalamus is not."


@pytest.fixture
def saved(tmp_path):
    text_tokenizer = train_text_tokenizer([TEXT] * 3, 300)
    text_tokenizer.save_pretrained(tmp_path / "lm")
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path, text_tokenizer


def test_text_files_become_tokens_that_read_the_same(saved):
    folder, text_tokenizer = saved
    path = corpus(
        "build", [str(folder / "text.txt")], output=folder / "c.bin", lm=str(folder / "lm")
    )
    found = Corpus(path, text_tokenizer)
    assert found.ids.dtype == np.uint16
    text = text_tokenizer.decode(found.ids.tolist())
    assert text == TEXT.replace("\n\n", "<|endoftext|>") + "<|endoftext|>"
    drawn = found.draw(4, 6)
    assert drawn.shape == (4, 6)
    assert drawn.dtype == torch.long


def test_a_large_vocabulary_gets_wider_integers(saved, tmp_path):
    class Large:
        eos_token_id = 100_000

        def __len__(self):
            return 151_936

        def __call__(self, texts, **_):
            return {"input_ids": [[70_000, 5] for _ in texts]}

        def get_vocab(self):
            return {"a": 1}

    write_corpus(["x"], Large(), tmp_path / "l.bin")
    assert Corpus(tmp_path / "l.bin", Large()).ids.tolist() == [70_000, 5, 100_000]


def test_a_corpus_of_another_text_tokenizer_is_refused(saved):
    folder, text_tokenizer = saved
    write_corpus([TEXT], text_tokenizer, folder / "c.bin")
    with pytest.raises(InputError, match="another text tokenizer"):
        Corpus(folder / "c.bin", train_text_tokenizer(["something else entirely"] * 3, 280))


def test_a_missing_corpus_names_the_command_that_makes_it(saved):
    folder, text_tokenizer = saved
    with pytest.raises(FileNotFoundError, match="fmrilm corpus build"):
        Corpus(folder / "none.bin", text_tokenizer)


def test_missing_sources_are_said(saved):
    folder, _ = saved
    with pytest.raises(FileNotFoundError, match=r"no\.txt not found"):
        corpus("build", ["no.txt"], output=folder / "c.bin", lm=str(folder / "lm"))
    with pytest.raises(InputError, match="the only one is build"):
        corpus("make", [], output=folder / "c.bin", lm=str(folder / "lm"))
    with pytest.raises(FileNotFoundError, match="apt-get install wordnet-base"):
        next(wordnet_glosses(folder / "none"))


@pytest.mark.skipif(not WORDNET.is_dir(), reason="WordNet is not installed (wordnet-base)")
def test_wordnet_entries_are_sentences():
    first = next(wordnet_glosses())
    assert ": " in first
    assert "|" not in first


def test_an_entry_of_wordnet_is_its_words_and_their_meaning(tmp_path):
    line = "00001740 03 n 02 entity 0 living_thing 0 001 ~ 00001930 n 0000 | that which is  "
    (tmp_path / "data.noun").write_text(f"  1 the licence\n{line}\n")
    assert list(wordnet_glosses(tmp_path)) == ["entity, living thing: that which is"]
