"""Text tokenizers as found: without an end, with a start of their own, with strict templates."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from fmrilm.config.schema import SCAN_MARK
from fmrilm.errors import InputError
from fmrilm.lm.interface import check_length
from fmrilm.lm.text import SCAN_ID, TextEncoder


def tokenizer(bos=False, eos=True, template=None):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    bpe.train_from_iterator(
        [], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet)
    )
    names = {"eos_token": "</s>"} if eos else {}
    if bos:
        pair = [("<s>", bpe.token_to_id("<s>"))]
        bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=pair)
        names["bos_token"] = "<s>"
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, **names)
    made.chat_template = template
    return made


@pytest.mark.parametrize("layout", ["template", "interleaved", "prefix"])
def test_the_start_that_a_tokenizer_adds_by_itself_stands_before_the_prompt_once(layout):
    with_start = TextEncoder(tokenizer(bos=True), 3, layout=layout)
    without = TextEncoder(tokenizer(), 3, layout=layout)
    for prompt in (f"{SCAN_MARK}\nWho?", "Who?"):
        assert with_start.prompt_ids(prompt) == [0, *without.prompt_ids(prompt)]
    assert with_start.text_ids("x")[0] == 0
    assert with_start.next_turn_ids("And?") == without.next_turn_ids("And?")
    assert with_start.answer_ids("Male") == without.answer_ids("Male")


def test_a_chat_template_writes_the_start_itself():
    template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    ids = TextEncoder(tokenizer(bos=True, template=template), 3).prompt_ids(f"{SCAN_MARK} Who?")
    assert ids.count(0) == 1
    assert ids.count(SCAN_ID) == 3


def test_a_tokenizer_without_an_end_is_refused():
    with pytest.raises(InputError, match="no end-of-text token: set eos_token"):
        TextEncoder(tokenizer(eos=False), 3)


@pytest.mark.parametrize(("template", "said"), [
    ("{{ raise_exception('System role is required') }}", "System role is required"),
    ("{{ messages[0]['content'] | upper }}", "changes"),
])  # fmt: skip
def test_a_chat_template_that_cannot_ask_about_a_scan_is_refused(template, said):
    with pytest.raises(InputError, match=said):
        TextEncoder(tokenizer(template=template), 3)


def test_a_prompt_longer_than_the_positions_of_a_language_model_is_refused():
    lm = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1, n_positions=6))
    shared = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 2]])  # nine tokens, three positions
    check_length(shared, lm)
    with pytest.raises(InputError, match="needs 7 positions, the language model has 6"):
        check_length(torch.arange(7)[None], lm)
