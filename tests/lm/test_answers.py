"""One rule for every answer: the log-probability of the whole of it, end token included."""

from functools import cache

import pytest
import torch

from fmrilm.config.schema import SCAN_MARK
from fmrilm.errors import InputError
from fmrilm.lm import answer_tree
from fmrilm.lm.text import TextEncoder, with_scan
from fmrilm.tasks import TASKS, build_conversation, build_prompt
from lm.test_fmrilm import KINDS, PROMPTS, make, scans
from lm.test_real_language_models import text_tokenizer_of

ALIKE = ["5", "52", "57", "7", "something else", "something"]  # answers that begin others


def whole_answer(model, prompt: str, answer: str, scan: tuple, end: bool = True) -> torch.Tensor:
    """Return an answer's log-probability by one plain pass over prompt and answer."""
    said = model.text.answer_ids(answer, end=end)
    batch = model.text.batch([model.text.prompt_ids(prompt)], [said])
    return -model(**batch, fmri=scan[0], roi_mask=scan[1]).detach() * len(said)


def plain_scores(model, fmri, mask, candidates: list[str]) -> torch.Tensor:
    rows = [
        [whole_answer(model, p, c, (fmri[i : i + 1], mask[i : i + 1])) for c in candidates]
        for i, p in enumerate(PROMPTS)
    ]
    return torch.tensor(rows)


@KINDS
def test_scores_are_log_probabilities_of_whole_answers(kind):
    model = make(kind)
    fmri, mask = scans()
    expected = plain_scores(model, fmri, mask, ALIKE)
    scores = model.score(fmri, mask, PROMPTS, ALIKE)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)
    [asked] = model.ask(fmri, mask, [(PROMPTS, ALIKE)])
    torch.testing.assert_close(asked, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("most", [1, 16])
def test_scores_do_not_depend_on_how_much_is_read_at_once(monkeypatch, most):
    model = make("gpt2")
    fmri, mask = scans()
    prefix = model.prefill(fmri, mask, PROMPTS)
    before = [layer.keys.clone() for layer in prefix.cache.layers]
    scores = answer_tree.answer_log_probabilities(model, prefix, ALIKE)
    monkeypatch.setattr(answer_tree, "MAX_TOKENS", most)
    read = []
    model.lm.register_forward_pre_hook(
        lambda _m, _a, options: read.append(options["inputs_embeds"].shape[:2].numel()),
        with_kwargs=True,
    )
    longest = max(len(model.text.answer_ids(answer)) for answer in ALIKE)
    parts = answer_tree.answer_log_probabilities(model, prefix, ALIKE)
    torch.testing.assert_close(parts, scores, atol=1e-5, rtol=1e-5)
    assert max(read) <= max(most, longest)
    some = answer_tree.answer_log_probabilities(model, prefix, ALIKE, rows=[2, 0])
    torch.testing.assert_close(some, scores[[2, 0]], atol=1e-5, rtol=1e-5)
    for layer, keys in zip(prefix.cache.layers, before, strict=True):  # the prefix is as it was
        assert torch.equal(layer.keys, keys)


def test_a_length_normalised_score_is_the_mean_over_the_tokens_without_the_end():
    model = make()
    fmri, mask = scans()
    scores = model.score(fmri, mask, PROMPTS, ALIKE, normalise="length")
    for c, answer in enumerate(ALIKE):
        count = len(model.text.answer_ids(answer, end=False))
        mean = whole_answer(model, PROMPTS[0], answer, (fmri[:1], mask[:1]), end=False) / count
        torch.testing.assert_close(scores[0, c], mean, atol=1e-5, rtol=1e-5)
    [asked] = model.ask(fmri, mask, [(PROMPTS, ALIKE)], normalise="length")
    torch.testing.assert_close(asked, scores, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match=r"'lenght'.*length"):
        model.score(fmri, mask, PROMPTS, ALIKE, normalise="lenght")
    with pytest.raises(InputError, match="no answer to score"):
        model.score(fmri, mask, PROMPTS, [])


@pytest.mark.parametrize(
    ("kind", "answers", "counts"),
    [
        ("tiny", ("rest", "heat heat"), (3, 2)),
        ("tiny", ("rest", "rest heat"), (2, 3)),
        ("chat", ("5", "52"), (3, 2)),
    ],
)
def test_a_model_trained_on_frequencies_answers_with_them(kind, answers, counts):
    model = make(kind)
    assert [len(model.text.answer_ids(answer, end=False)) for answer in answers] == [1, 2]
    prompt = PROMPTS[1]
    said = [answer for answer, n in zip(answers, counts, strict=True) for _ in range(n)]
    batch = model.text.batch(
        [model.text.prompt_ids(prompt)] * 5, [model.text.answer_ids(answer) for answer in said]
    )
    fmri, mask = (part[:1].expand(5, *part.shape[1:]) for part in scans())
    optimizer = torch.optim.LBFGS(model.lm.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = model(**batch, fmri=fmri, roi_mask=mask)
        value.backward()
        return value

    optimizer.step(loss)
    share = model.score(fmri[:1], mask[:1], [prompt], answers).softmax(-1)[0]
    torch.testing.assert_close(share, torch.tensor(counts) / 5, atol=0.02, rtol=0)
    if answers[1] == "heat heat":  # a mean over tokens prefers the rarer answer of two
        mean = model.score(fmri[:1], mask[:1], [prompt], answers, normalise="length")
        assert mean[0, 1] > mean[0, 0]
    best = answers[int(share.argmax())]
    assert model.generate(fmri[:1], mask[:1], [prompt], 8) == [best]
    assert model.generate(fmri[:1], mask[:1], [prompt], 8, allowed=answers) == [best]


def test_among_allowed_answers_the_likeliest_whole_one_is_written_whole():
    model = make()
    fmri, mask = scans()
    answers = ["heat, and heat", "rest", "heat, or rest", "something else entirely"]
    best = model.score(fmri, mask, PROMPTS, answers).argmax(1)
    pieces: list[list[str]] = []
    texts = model.generate(fmri, mask, PROMPTS, 1, allowed=answers, on_text=pieces.append)
    assert texts == [answers[i] for i in best]
    assert ["".join(row) for row in zip(*pieces, strict=True)] == texts


# The scan's place ----------------------------------------------------------------------------

UNMARKED = "Is it heat? Answer:"
ENTRIES = {
    "score": lambda m, f, k, p: m.score(f, k, p, ["heat", "rest"]),
    "ask": lambda m, f, k, p: m.ask(f, k, [(p, ["heat", "rest"]), (PROMPTS[0], ["heat"])]),
    "expect": lambda m, f, k, p: m.expect(f, k, p, [1.0, 2.0]),
    "classify": lambda m, f, k, p: m.classify(f, k, p),
    "generate": lambda m, f, k, p: m.generate(f, k, p, 2),
    "allowed": lambda m, f, k, p: m.generate(f, k, p, 2, allowed=["heat"]),
    "prefill": lambda m, f, k, p: m.prefill(f, k, p),
    "forward": lambda m, f, k, p: m(
        **m.text.batch([m.text.prompt_ids(one) for one in p], [[1]] * len(p)), fmri=f, roi_mask=k
    ),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_prompt_without_a_place_for_its_scan_is_refused(entry, where):
    model = make(use_cls_head=True)
    prompts = [UNMARKED if i == where else PROMPTS[0] for i in range(3)]
    with pytest.raises(InputError, match=r"prompt \d of the batch has 0 places.*with_scan"):
        ENTRIES[entry](model, *scans(), prompts)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_prompt_with_two_places_for_its_scan_is_refused(entry):
    model = make(use_cls_head=True)
    twice = [PROMPTS[0], f"{SCAN_MARK} and {SCAN_MARK}: the same?", UNMARKED]
    with pytest.raises(InputError, match="2 times"):
        ENTRIES[entry](model, *scans(), twice)


def test_a_training_row_is_never_given_its_neighbours_scan():
    model = make(use_cls_head=True, token_dropout=0.5).train()
    fmri, mask = scans()
    own = model.text.prompt_ids(PROMPTS[0])
    rows = [own, model.text.prompt_ids(UNMARKED), own + own]  # three scans' places in all
    batch = model.text.batch(rows, [[1]] * 3)
    for _ in range(8):  # with the tokens of scans and without
        with pytest.raises(InputError, match="prompt 2 "):
            model(**batch, fmri=fmri, roi_mask=mask)
    batch = model.text.batch([own] * 3, [[1]] * 3)
    with pytest.raises(InputError, match="no scan is given"):
        model(**batch)
    with pytest.raises(InputError, match="3 prompts for 2 scans"):
        model(**batch, fmri=fmri[:2], roi_mask=mask[:2])


def test_a_mark_in_a_later_turn_or_a_missing_prompt_is_refused():
    model = make()
    with pytest.raises(InputError, match="first turn"):
        model.text.conversation([PROMPTS[0], f"And {SCAN_MARK}?"], ["heat", "rest"])
    with pytest.raises(InputError, match="2 prompts for 3 scans"):
        model.ask(*scans(), [(PROMPTS[:2], ["heat", "rest"])])


def test_with_scan_puts_the_place_in_where_there_is_none():
    assert with_scan(PROMPTS[1]) == PROMPTS[1]
    put = with_scan(UNMARKED)
    assert put == f"{SCAN_MARK}\n{UNMARKED}"
    model = make()
    fmri, mask = scans()
    scores = model.score(fmri, mask, [put] * 3, ["heat", "rest"])
    assert (scores[0] - scores[2]).abs().max() > 1e-6


# Real text tokenizers ------------------------------------------------------------------------


@cache
def encoder(kind: str) -> TextEncoder:
    return TextEncoder(text_tokenizer_of(kind), 3, num_summary_tokens=2)


def tokens_in_one_go(text: TextEncoder, prompt: str, answer: str) -> list[int]:
    """Return the ids of prompt and answer tokenised as one text, without the scan."""
    tokenizer = text.text_tokenizer
    if text.is_chat:
        talk = [{"role": "user", "content": prompt}]
        whole = tokenizer.apply_chat_template(
            talk, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        whole += answer
    else:
        whole = f"{prompt} {answer}"
    before, _, after = whole.partition(SCAN_MARK)
    parts = [f"{before}<fmri>", f"</fmri>{after}{tokenizer.eos_token}"]
    return [i for part in parts for i in tokenizer(part, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.candidates])
def test_what_is_trained_is_what_is_scored_and_what_one_text_would_be(kind, name):
    text, task = encoder(kind), TASKS[name]
    scored = [tuple(text.answer_ids(candidate)) for candidate in task.candidates]
    assert len(set(scored)) == len(scored)
    first = [text.text_tokenizer.convert_ids_to_tokens(ids[0]) for ids in scored]
    assert all(token.startswith("\u0120") != text.is_chat for token in first)  # the space before
    for variant in range(len(task.questions)):
        prompt = build_prompt(task, variant, "A cohort.", {} if variant else {"note": "x"})
        question = text.prompt_ids(prompt)
        chosen = range(len(scored)) if variant == 0 else [variant % len(scored)]
        for k in chosen:
            ids, labels = text.conversation([prompt], [task.candidates[k]])
            assert ids == [*question, *scored[k]]
            assert labels == [-100] * len(question) + list(scored[k])
            assert ids[-1] == text.text_tokenizer.eos_token_id
            together = tokens_in_one_go(text, prompt, task.candidates[k])
            assert [i for i in ids if i >= 0] == together
            assert text.decode(scored[k]) == task.candidates[k]


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_every_answer_of_a_conversation_is_one_that_is_scored(kind):
    text = encoder(kind)
    tasks = [TASKS[name] for name in ("sex", "ASD", "age")]
    answers = [task.candidates[-1] for task in tasks]
    ids, labels = text.conversation(build_conversation(tasks, [0, 0, 0]), answers)
    supervised = [i for i, label in zip(ids, labels, strict=True) if label >= 0]
    assert supervised == [i for answer in answers for i in text.answer_ids(answer)]


def test_the_end_token_tells_an_answer_from_one_that_goes_on():
    gpt2, qwen3 = encoder("gpt2"), encoder("qwen3")
    assert [len(qwen3.answer_ids(n, end=False)) for n in ("5", "52", "100")] == [1, 2, 3]
    assert qwen3.answer_ids("52")[0] == qwen3.answer_ids("5")[0]
    assert qwen3.answer_ids("52")[1] != qwen3.answer_ids("5")[1] == qwen3.eos_id
    assert gpt2.answer_ids("5") != gpt2.text_tokenizer("5")["input_ids"] + [gpt2.eos_id]
    # Words for controls and patients differ in length: a mean over tokens would favour patients.
    lengths = {w: len(qwen3.answer_ids(w, end=False)) for w in ("Control", "ADHD", "Autism")}
    assert lengths["Control"] < lengths["ADHD"]
