"""Language models with sliding windows; what the `generate` of transformers does with our masks."""

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fmrilm.config.schema import load_config
from fmrilm.lm.decoding import read_whole
from fmrilm.lm.fmrilm import FMRILM
from fmrilm.lm.interface import attention_masks
from fmrilm.lm.text import train_text_tokenizer, with_scan
from fmrilm.tokenizer.masks import attention_bias, positions
from fmrilm.tokenizer.tokenizer import FMRITokenizer

OPTIONS = ["num_rois=6", "num_timestamp=20", "patch_size=10", "enc_cls=vit_tiny", "n_embd=16",
           "n_head=2", "n_layer=1", "codebook_size=16", "code_dim=4"]  # fmt: skip
QUESTIONS = [with_scan("What is the sex of this person?"), with_scan("Who?")]


def sizes(vocabulary: int) -> dict[str, int]:
    return {"vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 16}  # fmt: skip


def language_model(kind: str, vocabulary: int):
    torch.manual_seed(0)
    if kind == "gemma3":
        layers = ["sliding_attention", "sliding_attention", "full_attention"]
        return Gemma3ForCausalLM(
            Gemma3TextConfig(**sizes(vocabulary), sliding_window=8, layer_types=layers)
        )
    if kind == "mistral":
        return MistralForCausalLM(MistralConfig(**sizes(vocabulary), sliding_window=8))
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**sizes(vocabulary)))
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    )


@pytest.fixture(params=["gemma3", "mistral"])
def model(request):
    config = load_config(overrides=[f"model.vq_model.{one}" for one in OPTIONS]).model
    text = train_text_tokenizer(["What is the sex of this person? Male Female"] * 3, 300)
    torch.manual_seed(0)
    tokenizer = FMRITokenizer(config.vq_model)
    return FMRILM(config, tokenizer, language_model(request.param, len(text)), text).eval()


def test_generation_with_a_cache_is_that_of_reading_everything_anew(model):
    fmri = torch.randn(2, 6, 20)
    said = model.generate(fmri, None, QUESTIONS, max_new_tokens=8)
    for row, prompt in enumerate(QUESTIONS):
        ids: list[int] = []
        for _ in range(8):
            scan = model.project(fmri[row : row + 1])
            prefix = read_whole(model, scan, None, [model.text.prompt_ids(prompt) + ids])
            ids.append(int(prefix.logits.argmax(-1)))
            if ids[-1] == model.text.eos_id:
                break
        assert model.text.decode([i for i in ids if i != model.text.eos_id]) == said[row]


def test_answers_are_scored_as_by_reading_each_whole(model):
    fmri = torch.randn(1, 6, 20)
    candidates = ["Male", "Female person"]
    scores = model.score(fmri, None, QUESTIONS[:1], candidates)[0]
    for candidate, score in zip(candidates, scores, strict=True):
        answer = model.text.answer_ids(candidate)
        ids, total = model.text.prompt_ids(QUESTIONS[0]), 0.0
        for token in answer:
            with torch.no_grad():
                prefix = read_whole(model, model.project(fmri), None, [ids])
            total += float(prefix.logits.log_softmax(-1)[0, token])
            ids = [*ids, token]
        assert total == pytest.approx(float(score), abs=1e-4)


def test_a_window_hides_what_lies_further_back_in_positions():
    lm = language_model("mistral", 50)
    position = torch.arange(12)[None]
    mask = attention_masks(lm, position, position, torch.ones(1, 12).bool(), torch.float32)
    seen = mask[0, 0] == 0
    assert seen[11].tolist() == [False] * 4 + [True] * 8
    shared = torch.zeros(1, 12, dtype=torch.long)  # regions of one time step: none is far
    whole = attention_masks(lm, shared, shared, torch.ones(1, 12).bool(), torch.float32)
    assert (whole == 0).all()


@pytest.mark.parametrize("kind", ["gpt2", "qwen3", "gemma3"])
def test_the_library_s_own_generate_cannot_take_the_prefix_rule(kind):
    """Why decoding is ours. When this fails, transformers can: drop `lm/decoding.py` for it."""
    lm = language_model(kind, 50).eval()
    embeds = lm.get_input_embeddings()(torch.randint(0, 50, (1, 10)))
    is_scan = torch.tensor([[True] * 6 + [False] * 4])
    place = positions(is_scan, torch.ones(1, 10).bool(), 3)
    bias = attention_bias(place, place, torch.ones(1, 10).bool(), embeds.dtype)
    with pytest.raises(RuntimeError, match="same number of dimensions"):
        lm.generate(inputs_embeds=embeds, attention_mask=bias, position_ids=place,
                    max_new_tokens=4, do_sample=False)  # fmt: skip
