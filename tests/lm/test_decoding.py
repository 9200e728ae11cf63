from itertools import zip_longest

import pytest
import torch

from fmrilm.config.schema import SCAN_MARK
from fmrilm.errors import InputError
from fmrilm.lm.codes import text_and_codes_loss
from fmrilm.lm.decoding import continue_text
from lm.test_fmrilm import CANDIDATES, KINDS, PROMPTS, make, scans

SHARED = [f"{SCAN_MARK}\nIs it heat?", f"{SCAN_MARK} Or is it rest, perhaps? Answer:"]


@KINDS
def test_a_scan_read_once_for_several_prompts_gives_the_same_scores(kind):
    model = make(kind)
    fmri, mask = scans()
    shared = model.score(fmri, mask, SHARED * 3, CANDIDATES).view(3, 2, 3)
    for q, prompt in enumerate(SHARED):
        alone = model.score(fmri, mask, [prompt] * 3, CANDIDATES)
        torch.testing.assert_close(shared[:, q], alone, atol=1e-5, rtol=1e-5)


def test_a_scan_is_read_once_for_all_its_questions(monkeypatch):
    model = make()
    reads = []
    read = model.read
    monkeypatch.setattr(model, "read", lambda *a, **k: reads.append(len(a[0])) or read(*a, **k))
    questions = [(SHARED[0], CANDIDATES), (SHARED[1], ["yes", "no"]), (SHARED[1], CANDIDATES)]
    fmri, mask = scans()
    found = model.ask(fmri, mask, questions)
    assert reads == [3]  # one row per scan; everything else goes on from its cache
    for (prompt, candidates), values in zip(questions, found, strict=True):
        expected = model.score(fmri, mask, [prompt] * 3, candidates)
        torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)


@KINDS
def test_prompts_that_differ_before_the_scan_are_answered_too(kind):
    model = make(kind)
    fmri, mask = scans()
    mixed = [SHARED[0], PROMPTS[2]]
    together = model.score(fmri[:1], mask[:1], mixed, CANDIDATES)
    alone = [model.score(fmri[:1], mask[:1], [one], CANDIDATES) for one in mixed]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_prompts_that_cannot_be_shared_out_are_refused():
    fmri, mask = scans()
    with pytest.raises(InputError, match="2 prompts cannot be shared out among 3 scans"):
        make().score(fmri, mask, SHARED, CANDIDATES)


@KINDS
@pytest.mark.parametrize("do_sample", [False, True])
def test_only_allowed_answers_are_written(kind, do_sample):
    model = make(kind)
    fmri, mask = scans()
    texts = model.generate(fmri, mask, PROMPTS, 20, do_sample, allowed=CANDIDATES)
    assert set(texts) <= set(CANDIDATES)
    assert model.generate(fmri, mask, PROMPTS, 20, allowed=["rest"]) == ["rest"] * 3
    with pytest.raises(InputError, match="no answer is allowed"):
        model.generate(fmri, mask, PROMPTS, 20, allowed=[])


def test_the_streamed_pieces_make_up_the_text():
    model = make()
    pieces: list[list[str]] = []
    told = ["something else entirely \u00e9", "heat", "\u00e9 rest"]
    scripts = [model.text.answer_ids(text) for text in told]
    steps = zip_longest(*scripts, fillvalue=model.text.eos_id)
    prefix = model.prefill(*scans(), PROMPTS)
    texts = continue_text(
        model, prefix, 30, lambda logits: torch.tensor(next(steps)), pieces.append
    )
    assert texts == told
    assert len(pieces) > 1
    assert not any("\ufffd" in piece for row in pieces for piece in row)
    assert ["".join(row).strip() for row in zip(*pieces, strict=True)] == texts


def test_a_number_is_the_mean_of_the_values_under_their_probabilities():
    model = make()
    fmri, mask = scans()
    value = model.expect(fmri, mask, PROMPTS, [5.0, 52.0, 7.0])
    logp = []
    for number in ("5", "52", "7"):
        ids = [model.text.answer_ids(number)] * 3
        rows = [model.text.prompt_ids(p) for p in PROMPTS]
        for i in range(3):
            batch = model.text.batch([rows[i]], [ids[i]])
            mean = model(**batch, fmri=fmri[i : i + 1], roi_mask=mask[i : i + 1])
            logp.append(-mean.detach() * len(ids[i]))
    share = torch.stack(logp).view(3, 3).T.softmax(-1)
    torch.testing.assert_close(value, share @ torch.tensor([5.0, 52.0, 7.0]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("patch_size", [20, 10])
@pytest.mark.parametrize("use_fmri_lm_head", [True, False])
def test_a_scan_written_from_text_follows_the_trained_codes(patch_size, use_fmri_lm_head):
    from fmrilm.lm.codes import text_to_codes_loss

    model = make(patch_size=patch_size, use_fmri_lm_head=use_fmri_lm_head)
    fmri, mask = torch.randn(2, 6, 20), torch.ones(2, 6, dtype=torch.bool)
    codes = model.encode(fmri, mask)[1]
    texts = ["typical connectivity", "heat, heat and rest"]
    batch = model.text.pad([model.text.scan_request_ids(text) for text in texts])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for _ in range(60):
        loss = text_to_codes_loss(model, **batch, codes=codes, roi_mask=mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    written = model.generate_scan(texts)
    assert written.shape == fmri.shape
    torch.testing.assert_close(written, model.tokenizer.decode_indices(codes), atol=1e-4, rtol=1e-4)


def test_codes_as_words_share_one_distribution_with_the_text():
    model = make(use_fmri_lm_head=False)
    states = torch.randn(4, 32)
    logits, first = model.code_logits(states)
    vocabulary = model.lm.get_output_embeddings().out_features
    assert first == vocabulary
    assert logits.shape == (4, vocabulary + model.tokenizer.codebook_size)


@pytest.mark.parametrize("kind", ["tiny", "chat"])
def test_only_answers_of_a_conversation_are_supervised(kind):
    model = make(kind)
    ids, labels = model.text.conversation([SHARED[0], "Is it rest?"], ["heat", "rest"])
    supervised = [i for i, label in zip(ids, labels, strict=True) if label != -100]
    assert supervised == model.text.answer_ids("heat") + model.text.answer_ids("rest")
    whole = model.text.decode([i for i in ids if i >= 0])
    assert "Is it rest?" in whole
    if kind == "chat":
        assert whole.count("<assistant>") == 2
    first = model.text.prompt_ids(SHARED[0])
    assert ids[: len(first)] == first


@pytest.mark.parametrize("kind", ["tiny", "gpt2"])
def test_one_pass_gives_the_losses_of_two(kind):
    model = make(kind, 10, add_fmri_delimiter=False)
    fmri, mask = scans()
    features, codes = model.encode(fmri, mask)
    answers = [model.text.answer_ids("heat")] * 3
    batch = model.text.batch([model.text.prompt_ids(SHARED[0])] * 3, answers)
    text, code = text_and_codes_loss(
        model, {**batch, "fmri": fmri, "roi_mask": mask}, features, codes
    )
    torch.testing.assert_close(text, model(**batch, fmri=fmri, roi_mask=mask, features=features))
    expected = model.code_loss(fmri, mask, 0.3)
    torch.testing.assert_close(code, expected, atol=1e-5, rtol=1e-5)


def test_prompts_of_their_own_for_every_scan_are_answered_as_one_by_one():
    model = make()
    fmri, mask = scans()
    own = [f"{SCAN_MARK} Known: {i}. Is it heat?" for i in range(3)]
    found = model.ask(fmri, mask, [(own, CANDIDATES), (SHARED[1], ["yes", "no"])])
    alone = model.score(fmri, mask, own, CANDIDATES)
    torch.testing.assert_close(found[0], alone, atol=1e-5, rtol=1e-5)
    alone = model.score(fmri, mask, [SHARED[1]] * 3, ["yes", "no"])
    torch.testing.assert_close(found[1], alone, atol=1e-5, rtol=1e-5)


def test_latent_tokens_are_read_masked_and_written_as_one_step():
    from fmrilm.config.schema import LMConfig, ModelConfig, TokenizerConfig
    from fmrilm.lm.fmrilm import build_fmrilm
    from fmrilm.tokenizer.saved import build_tokenizer
    from lm.test_fmrilm import TEXTS

    small = {"n_embd": 16, "n_layer": 1, "n_head": 2, "codebook_size": 32, "code_dim": 8}
    config = TokenizerConfig(
        num_rois=6, num_timestamp=20, patch_size=10, num_latent_tokens=5, **small
    )
    lm = LMConfig(base_model="tiny", tiny_width=32, tiny_depth=1)
    model = build_fmrilm(ModelConfig(config, lm), build_tokenizer(config), TEXTS).eval()
    fmri, mask = scans()
    found = model.ask(fmri, mask, [(SHARED[0], CANDIDATES), (SHARED[1], CANDIDATES)])
    alone = model.score(fmri, mask, [SHARED[1]] * 3, CANDIDATES)
    torch.testing.assert_close(found[1], alone, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(model.code_loss(fmri, mask, 0.5))
    assert model.generate_scan(["typical connectivity"]).shape == (1, 6, 20)
