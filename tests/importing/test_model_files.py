"""Checkpoints with a language model compute here what the original computes from them."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

import original as o
from fmrilm.config.schema import SCAN_MARK
from fmrilm.errors import InputError
from fmrilm.importing.checkpoint import import_checkpoint
from fmrilm.lm.fmrilm import FMRILM
from fmrilm.lm.text import SCAN_ID

QUESTION = "Question: What?\nAnswer:"
QWEN_LORA, GPT2_LORA = ("q_proj", "k_proj"), ("c_attn",)


def arguments(steps, targets=(), rank=2, alpha=3, **rest):
    args = {"num_rois": o.R, "num_fmri_tokens": o.R * steps, "base_model": "Qwen/Qwen3-0.6B"}
    args |= {"use_fmri_lm_head": False, "add_fmri_delimiter": True, "peft_tune": bool(targets)}
    if targets:
        args |= {"lora_r": rank, "lora_alpha": alpha, "lora_dropout": 0.1}
    return args | rest


def save(tmp_path, state, args, **rest):
    path = tmp_path / "instruct.pt"
    content = {"model": state, "model_args": args, "optimizer": {}, "iter_num": 5, "epoch": 2}
    content |= {"best_avg_metric_classification": 0.7, "test_results": {"sex": 0.8}}
    torch.save(content | rest, path)
    return path


def setup(tmp_path, family="qwen3", layout="A", steps=1, targets=QWEN_LORA, **rest):
    torch.manual_seed(0)
    lm, text_tokenizer = o.language_model(tmp_path / "lm", family)
    head = rest.get("use_fmri_lm_head", False)
    state, merged = o.model_state(lm, layout, targets, 2, 3, head)
    path = save(tmp_path, state, arguments(steps, targets, **rest))
    return path, lm, text_tokenizer, state, merged


@pytest.mark.parametrize(
    ("family", "layout", "steps", "targets", "prompt_layout"),
    [
        ("qwen3", "A", 1, QWEN_LORA, "interleaved"),
        ("qwen3", "B", 3, QWEN_LORA, "prefix"),
        ("qwen3", "A", 2, (), "interleaved"),
        ("gpt2", "A", 1, GPT2_LORA, "prefix"),
        ("gpt2", "B", 2, (), "interleaved"),
    ],
)
def test_logits_are_those_of_the_original(tmp_path, family, layout, steps, targets, prompt_layout):
    path, lm, text_tokenizer, state, merged = setup(tmp_path, family, layout, steps, targets)
    options = {"lm": str(tmp_path / "lm"), "prompt_layout": prompt_layout, "heads": o.HEADS}
    folder = import_checkpoint(path, output=tmp_path / "run", **options)
    model = FMRILM.from_pretrained(folder / "model")
    lm.load_state_dict(merged)
    fmri = torch.randn(3, o.R, steps * o.P)

    def ids(text):
        return text_tokenizer(text, add_special_tokens=False)["input_ids"]

    if family == "gpt2":
        around = ([], ids(QUESTION))
    else:
        user, rest = "<|im_start|>user\n", f"{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
        around = ([], ids(user + rest)) if prompt_layout == "prefix" else (ids(user), ids(rest))
    expected = o.logits_of(lm, text_tokenizer, state, layout, fmri, around)

    prompt = model.text.prompt_ids(f"{SCAN_MARK}\n{QUESTION}")
    assert prompt.count(SCAN_ID) == o.R * steps
    batch = model.text.batch([prompt] * 3)
    with torch.no_grad():
        scan = model.project(fmri)
        out, _, _ = model.read(batch["input_ids"], batch["attention_mask"], scan, use_cache=False)
    assert expected.std() > 0.1
    torch.testing.assert_close(out.logits, expected, atol=1e-4, rtol=1e-4)
    # and so in what answers: the prompt read once, candidates behind it
    scores = model.score(fmri, None, [f"{SCAN_MARK}\n{QUESTION}"] * 3, ["Male", "Female"])
    first = ids(" Male")
    if len(first) == 1:
        torch.testing.assert_close(scores[:, 0], expected[:, -1].log_softmax(-1)[:, first[0]])
    if targets:
        merged_folder = import_checkpoint(path, output=tmp_path / "merged", merge=True, **options)
        again = FMRILM.from_pretrained(merged_folder / "model")
        assert not again.config.lm.peft_tune
        same = again.score(fmri, None, [f"{SCAN_MARK}\n{QUESTION}"] * 3, ["Male", "Female"])
        torch.testing.assert_close(same, scores, atol=1e-4, rtol=1e-4)


def test_codes_can_be_named_where_the_checkpoint_has_a_head_for_them(tmp_path):
    path, _, _, state, _ = setup(tmp_path, use_fmri_lm_head=True)
    folder = import_checkpoint(
        path, output=tmp_path / "run", lm=str(tmp_path / "lm"), heads=o.HEADS
    )
    model = FMRILM.from_pretrained(folder / "model")
    states = torch.randn(2, 32)
    expected = states @ state["llm.fmri_lm_head.weight"].T
    torch.testing.assert_close(model.code_logits(states)[0].detach(), expected)


def test_delimiters_are_left_out_where_the_checkpoint_has_none(tmp_path):
    path, _lm, text_tokenizer, _state, _merged = setup(tmp_path, add_fmri_delimiter=False)
    folder = import_checkpoint(
        path, output=tmp_path / "run", lm=str(tmp_path / "lm"), heads=o.HEADS
    )
    ids = FMRILM.from_pretrained(folder / "model").text.prompt_ids(f"{SCAN_MARK}\n{QUESTION}")
    text = text_tokenizer.decode([one for one in ids if one != SCAN_ID])
    assert "fmri" not in text


def test_a_stage_2_file_in_half_precision_without_adapters_is_read(tmp_path):
    torch.manual_seed(0)
    lm, _ = o.language_model(tmp_path / "lm", "qwen3")
    state, _ = o.model_state(lm, "B", (), 1, 1)
    path = tmp_path / "stage2.pt"
    half = {name: value.bfloat16() for name, value in state.items()}
    torch.save({"model": half, "model_args": arguments(1), "iter_num": 1}, path)
    options = {"lm": str(tmp_path / "lm"), "heads": o.HEADS}
    folder = import_checkpoint(path, output=tmp_path / "run", **options)
    assert json.loads((folder / "lineage.json").read_text())["stage"] == "align"
    model = FMRILM.from_pretrained(folder / "model")
    weight = model.lm.get_input_embeddings().weight
    assert torch.equal(weight, state["llm.base_model.model.embed_tokens.weight"].bfloat16().float())


def test_a_second_adapter_stands_on_the_first(tmp_path):
    torch.manual_seed(0)
    lm, _ = o.language_model(tmp_path / "lm", "qwen3")
    state, merged = o.model_state(lm, "A", QWEN_LORA, 2, 3)
    for name in [name for name in state if ".lora_" in name]:
        state[name.replace(".default.", ".instruction_lora.")] = o.rand(*state[name].shape)
    for name in merged:
        key = f"llm.base_model.base_model.model.{name.removesuffix('.weight')}"
        if f"{key}.lora_A.default.weight" in state:
            a, b = (state[f"{key}.lora_{x}.instruction_lora.weight"] for x in "AB")
            merged[name] = merged[name] + 1.5 * b @ a
    path = save(tmp_path, state, arguments(1, QWEN_LORA, freeze_pretrained_lora=True))
    folder = import_checkpoint(
        path, output=tmp_path / "run", lm=str(tmp_path / "lm"), heads=o.HEADS
    )
    model = FMRILM.from_pretrained(folder / "model")
    lm.load_state_dict(merged)
    ids = torch.randint(200, (2, 7))
    torch.testing.assert_close(model.lm(ids).logits, lm(ids).logits, atol=1e-4, rtol=1e-4)


def test_another_language_model_is_refused(tmp_path):
    path, *_ = setup(tmp_path, "gpt2", targets=())
    o.language_model(tmp_path / "qwen", "qwen3")
    with pytest.raises(InputError, match=r"not .*qwen, a qwen3"):
        import_checkpoint(path, output=tmp_path / "run", lm=str(tmp_path / "qwen"), heads=o.HEADS)


def test_without_a_language_model_to_take_the_text_tokenizer_from_one_is_asked_for(tmp_path):
    path, *_ = setup(tmp_path, base_model=str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"cannot load the text tokenizer of .*absent"):
        import_checkpoint(path, output=tmp_path / "run", heads=o.HEADS)
    path, *_ = setup(tmp_path, base_model=None)
    with pytest.raises(InputError, match="--lm"):
        import_checkpoint(path, output=tmp_path / "run", heads=o.HEADS)


def test_without_its_configuration_a_language_model_is_known_by_its_shapes(tmp_path):
    path, _lm, _, _, _merged = setup(tmp_path, targets=())
    (tmp_path / "lm" / "config.json").unlink()
    folder = import_checkpoint(
        path, output=tmp_path / "run", lm=str(tmp_path / "lm"), heads=o.HEADS
    )
    config = AutoModelForCausalLM.from_pretrained(folder / "model" / "lm").config
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)
    assert config.rope_parameters["rope_theta"] == 1e6
    assert config.tie_word_embeddings
    card = json.loads((folder / "import.json").read_text())
    assert "published for qwen3" in card["facts"]["language model"]["source"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lora_r": 4}, "lora_r 4.*rank 2"),
        ({"lora_alpha": None}, "--lora_alpha"),
        ({"num_rois": 7}, "num_rois is 7"),
        ({"use_fmri_lm_head": True, "lora_r": None}, None),
        ({"use_cls_head": True}, "classification head"),
        ({"num_fmri_tokens": None}, "--num_timestamp"),
    ],
)
def test_what_the_settings_contradict_is_refused(tmp_path, change, message):
    path, _, _, state, _ = setup(tmp_path)
    if message is None:
        message = "contradicts the tensors"
    path = save(tmp_path, state, arguments(1, QWEN_LORA, **change))
    with pytest.raises(InputError, match=message):
        import_checkpoint(path, output=tmp_path / "run", lm=str(tmp_path / "lm"), heads=o.HEADS)


def test_scale_of_the_adapters_of_old_files_is_the_releases_own(tmp_path):
    torch.manual_seed(0)
    lm, _ = o.language_model(tmp_path / "lm", "qwen3")
    state, _ = o.model_state(lm, "A", QWEN_LORA, 8, 16)
    args = arguments(1, QWEN_LORA, lora_r=None, lora_alpha=None)
    path = save(tmp_path, state, args)
    folder = import_checkpoint(
        path, output=tmp_path / "run", lm=str(tmp_path / "lm"), heads=o.HEADS
    )
    config = FMRILM.from_pretrained(folder / "model").config.lm
    assert (config.lora_r, config.lora_alpha) == (8, 16)


def test_an_imported_model_is_evaluated_and_goes_on_training(tmp_path):
    from fmrilm.evaluation.evaluate import evaluate
    from fmrilm.training.build import train_stage
    from small import make_cohort

    path, *_ = setup(tmp_path)
    folder = import_checkpoint(
        path, output=tmp_path / "run", lm=str(tmp_path / "lm"), heads=o.HEADS
    )
    cohort = make_cohort(tmp_path / "cohort", rois=o.R, points=o.P)
    options = {"baselines": "none", "scrutiny": False}
    options |= {"free_text": False}
    results = evaluate([str(folder)], datasets=str(cohort), tasks="sex", **options)
    assert results[0].verdict["scan_adds"] in (True, False)
    more = [f"data.dataset_dir=[{cohort}]", "train.epochs=1", "train.batch_size=16"]
    trained = train_stage(
        "instruct",
        [*more, "instruct.tasks=[sex]"],
        config=[folder / "config.yaml"],
        output=tmp_path / "more",
        init=folder,
    )
    after = FMRILM.from_pretrained(trained / "model")
    before = FMRILM.from_pretrained(folder / "model")
    assert after.config.lm.prompt_layout == "interleaved"
    changed = {n for n, p in before.state_dict().items() if not p.equal(after.state_dict()[n])}
    assert any("lora_B" in name for name in changed)
    assert not any(name.startswith("tokenizer.") for name in changed)
    assert (trained / "model" / "lm" / "config.json").is_file()  # the weights are nowhere else
    evaluate([str(trained)], **options)
