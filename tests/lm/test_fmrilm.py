import dataclasses

import pytest
import torch

from fmrilm.config.schema import SCAN_MARK, LMConfig, ModelConfig, TokenizerConfig, load_config
from fmrilm.errors import InputError
from fmrilm.lm.fmrilm import FMRILM, build_fmrilm
from fmrilm.lm.language_models import load_language_model
from fmrilm.lm.text import SCAN_ID
from fmrilm.tokenizer.tokenizer import FMRITokenizer

TEXTS = ["Is it heat or rest? Answer: heat. The scan shows typical connectivity."] * 3
PROMPTS = [
    f"{SCAN_MARK}\nIs it heat?",
    f"{SCAN_MARK} Is it rest, or is it something else entirely? Answer:",
    f"A window of a study. {SCAN_MARK} Answer:",
]
CANDIDATES = ["heat", "rest", "something else"]
ROIS = 6


def gpt2() -> tuple:
    """Return a small GPT-2 of the real architecture, with its absolute position embeddings."""
    from transformers import GPT2Config, GPT2LMHeadModel

    _, text_tokenizer = load_language_model(LMConfig(base_model="tiny", tiny_width=32), TEXTS)
    config = GPT2Config(
        vocab_size=len(text_tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=128
    )
    return GPT2LMHeadModel._from_config(config, attn_implementation="sdpa"), text_tokenizer


def chat(text_tokenizer) -> None:
    text_tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"
    )


def make(kind: str = "tiny", patch_size: int = 10, **options) -> FMRILM:
    torch.manual_seed(0)
    tokenizer = FMRITokenizer(
        TokenizerConfig(
            num_rois=ROIS,
            num_timestamp=20,
            patch_size=patch_size,
            n_embd=16,
            n_layer=2,
            n_head=2,
            codebook_size=32,
            code_dim=8,
        )
    )
    lm = LMConfig(base_model="tiny", tiny_width=32, tiny_depth=2, **options)
    config = ModelConfig(vq_model=tokenizer.config.vq_model, lm=lm)
    if kind == "tiny":
        return build_fmrilm(config, tokenizer, TEXTS).eval()
    network, text_tokenizer = gpt2()
    if kind == "chat":
        chat(text_tokenizer)
    return FMRILM(config, tokenizer, network, text_tokenizer).eval()


def scans() -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.ones(3, ROIS, dtype=torch.bool)
    mask[1, 2:4] = False
    return torch.randn(3, ROIS, 20), mask


KINDS = pytest.mark.parametrize("kind", ["tiny", "gpt2", "chat"])
PATCHES = pytest.mark.parametrize("patch_size", [20, 10])


@KINDS
@PATCHES
def test_left_padding_does_not_change_an_answer(kind, patch_size):
    model = make(kind, patch_size)
    fmri, mask = scans()
    together = model.score(fmri, mask, PROMPTS, CANDIDATES)
    alone = [
        model.score(fmri[i : i + 1], mask[i : i + 1], PROMPTS[i : i + 1], CANDIDATES)
        for i in range(3)
    ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


@KINDS
@PATCHES
def test_cached_scores_are_those_of_full_recomputation(kind, patch_size):
    model = make(kind, patch_size)
    fmri, mask = scans()
    scores = model.score(fmri, mask, PROMPTS, CANDIDATES)
    for i, prompt in enumerate(PROMPTS):
        for c, candidate in enumerate(CANDIDATES):
            said = model.text.answer_ids(candidate)
            batch = model.text.batch([model.text.prompt_ids(prompt)], [said])
            loss = model(**batch, fmri=fmri[i : i + 1], roi_mask=mask[i : i + 1])
            torch.testing.assert_close(-loss * len(said), scores[i, c], atol=1e-5, rtol=1e-5)


@KINDS
def test_batched_generation_is_generation_one_by_one(kind):
    model = make(kind)
    fmri, mask = scans()
    together = model.generate(fmri, mask, PROMPTS, max_new_tokens=8)
    alone = [
        model.generate(fmri[i : i + 1], mask[i : i + 1], PROMPTS[i : i + 1], 8)[0] for i in range(3)
    ]
    assert together == alone


@KINDS
def test_greedy_generation_is_what_full_recomputation_prefers(kind):
    model = make(kind)
    fmri, mask = scans()
    ids = model.text.prompt_ids(PROMPTS[0])
    prefix = model.prefill(fmri[:1], mask[:1], PROMPTS[:1])
    answer: list[int] = []
    for _ in range(6):
        answer.append(int(prefix.logits.argmax()))
        batch = model.text.batch([ids + answer])
        scan = model.project(fmri[:1])
        full, _, _ = model.read(batch["input_ids"], batch["attention_mask"], scan, mask[:1])
        model.extend(prefix, torch.tensor([answer[-1:]]))
        torch.testing.assert_close(full.logits[:, -1], prefix.logits, atol=1e-4, rtol=1e-4)


@KINDS
@pytest.mark.parametrize("prompt", PROMPTS)
def test_another_scan_gives_other_scores_for_every_prompt_shape(kind, prompt):
    model = make(kind)
    fmri, mask = scans()
    first = model.score(fmri[:1], mask[:1], [prompt], CANDIDATES)
    other = model.score(fmri[2:], mask[2:], [prompt], CANDIDATES)
    assert (first - other).abs().max() > 1e-6


def test_a_masked_region_changes_no_answer():
    model = make()
    fmri, mask = scans()
    noisy = fmri.clone()
    noisy[1, 2:4] = 50.0
    before = model.score(fmri, mask, PROMPTS, CANDIDATES)
    torch.testing.assert_close(before, model.score(noisy, mask, PROMPTS, CANDIDATES))


def test_regions_of_a_time_step_see_each_other_but_not_the_next_step():
    model = make(patch_size=10)
    ids = torch.full((1, 2 * ROIS), SCAN_ID)
    mask = torch.ones(1, ROIS, dtype=torch.bool)
    scan = torch.randn(1, 2 * ROIS, 32)
    before = model.hidden_states(ids, scan, mask)
    later, same = scan.clone(), scan.clone()
    later[:, ROIS:] += torch.randn(1, ROIS, 32)
    same[:, ROIS - 1] += torch.randn(1, 32)
    torch.testing.assert_close(before[:, :ROIS], model.hidden_states(ids, later, mask)[:, :ROIS])
    changed = (before - model.hidden_states(ids, same, mask)).abs().amax(-1)[0]
    assert changed[0] > 1e-6  # position 0 sees the whole first step


def test_only_supervised_positions_count_and_get_logits():
    model = make()
    fmri, mask = scans()
    answers = [model.text.answer_ids(one) for one in ("heat", "rest", "heat")]
    batch = model.text.batch([model.text.prompt_ids(p) for p in PROMPTS], answers)
    loss = model(**batch, fmri=fmri, roi_mask=mask)
    scan = model.project(fmri, mask)
    full, _, _ = model.read(batch["input_ids"], batch["attention_mask"], scan, mask)
    expected = torch.nn.functional.cross_entropy(
        full.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
    )
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("activations", "tolerance"), [("recompute", 1e-5), ("half", 1e-2)])
def test_activations_kept_in_less_memory_give_the_same_loss_and_gradients(
    activations, tolerance, monkeypatch
):
    monkeypatch.setattr("fmrilm.lm.cpu.activations.SMALLEST", 1)
    found = {}
    for kind in ("keep", activations):
        model = make(peft_tune=True, lora_dropout=0.0, activations=kind).train()
        # Adapters start at zero, which hides their input's gradient.
        for name, parameter in model.lm.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
        batch = model.text.batch(
            [model.text.prompt_ids(p) for p in PROMPTS],
            [model.text.answer_ids(c) for c in CANDIDATES],
        )
        loss = model(**batch, fmri=torch.ones(3, ROIS, 20).cumsum(2))
        loss.backward()
        found[kind] = loss, model.projector[1].weight.grad
    torch.testing.assert_close(found["keep"][0], found[activations][0])
    exact, other = found["keep"][1], found[activations][1]
    assert exact.norm() > 0
    assert activations == "recompute" or not torch.equal(exact, other)
    assert (exact - other).norm() < tolerance * exact.norm()


def test_half_activations_are_refused_where_weights_are_spread():
    with pytest.raises(InputError, match="recompute"):
        load_config(overrides=["model.lm.activations=half", "train.parallel=fsdp"])


def test_without_the_scan_the_text_alone_is_read():
    model = make()
    fmri, mask = scans()
    alone = model.score(None, None, PROMPTS, CANDIDATES)
    assert alone.shape == (3, 3)
    assert not torch.allclose(alone, model.score(fmri, mask, PROMPTS, CANDIDATES))


@pytest.mark.parametrize("fmri_input", ["continuous", "quantized"])
def test_both_inputs_reach_the_language_model(fmri_input):
    model = make(fmri_input=fmri_input)
    fmri, mask = scans()
    features = model.features(fmri, mask)
    encoded = model.tokenizer.encode(fmri, mask)
    codes = model.tokenizer.quantize(encoded, fmri, mask).codes
    expected = encoded if fmri_input == "continuous" else codes
    assert torch.equal(features, expected)


@pytest.mark.parametrize("patch_size", [20, 10])
def test_the_code_loss_predicts_codes_it_is_not_shown(patch_size):
    model = make(patch_size=patch_size).train()
    fmri, mask = scans()
    loss = model.code_loss(fmri, mask, 0.5)
    assert 0 < loss.item() < 10
    loss.backward()
    assert model.fmri_head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("lora", [False, True])
def test_saved_and_read_again_it_gives_the_same_scores(tmp_path, lora):
    model = make(peft_tune=lora)
    if lora:  # an adapter that does something
        for name, parameter in model.lm.named_parameters():
            if "lora_" in name:
                parameter.data.normal_()
    fmri, mask = scans()
    before = model.score(fmri, mask, PROMPTS, CANDIDATES)
    model.save_pretrained(tmp_path)
    again = FMRILM.from_pretrained(tmp_path)
    torch.testing.assert_close(before, again.score(fmri, mask, PROMPTS, CANDIDATES))
    assert dataclasses.asdict(again.config) == dataclasses.asdict(model.config)


def test_lora_trains_only_the_adapter_of_the_language_model():
    model = make(peft_tune=True)
    trained = {name for name, p in model.lm.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert not any(p.requires_grad for p in model.tokenizer.parameters())


def test_a_frozen_tokenizer_stays_in_evaluation_mode():
    model = make().train()
    assert model.lm.training
    assert not model.tokenizer.training


def test_an_unknown_language_model_is_refused_in_one_sentence():
    with pytest.raises(InputError, match="cannot load the language model"):
        load_language_model(LMConfig(base_model="./no/such/folder"))


def test_sampling_keeps_to_the_most_likely_tokens():
    model = make(top_k=1)
    fmri, mask = scans()
    greedy = model.generate(fmri, mask, PROMPTS, 6)
    assert model.generate(fmri, mask, PROMPTS, 6, do_sample=True) == greedy
