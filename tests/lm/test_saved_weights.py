"""What training made is what is read again, to the last tensor; whatever else is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from fmrilm.config.schema import LMConfig, ModelConfig, TokenizerConfig
from fmrilm.errors import InputError
from fmrilm.lm import language_models as language_models
from fmrilm.lm.adapters import adapt, merge_lora
from fmrilm.lm.fmrilm import FMRILM, build_fmrilm
from fmrilm.lm.language_models import MANIFEST, load_language_model
from fmrilm.tokenizer.tokenizer import FMRITokenizer
from lm.test_fmrilm import CANDIDATES, PROMPTS, ROIS, TEXTS, gpt2, scans

KINDS = pytest.mark.parametrize("kind", ["gpt2", "qwen3"])


@pytest.fixture
def named(tmp_path, monkeypatch):
    """Return a function that puts a language model where the name ``known`` finds it."""

    def put(kind: str, seed: int = 0):
        torch.manual_seed(seed)
        folder = tmp_path / "hub"
        tiny = LMConfig(base_model="tiny", tiny_width=32, tiny_depth=2)
        network, text_tokenizer = gpt2() if kind == "gpt2" else load_language_model(tiny, TEXTS)
        network.save_pretrained(folder)
        text_tokenizer.save_pretrained(folder)
        source = LMConfig(base_model=str(folder))
        monkeypatch.setitem(language_models.NAMED, "known", lambda: load_language_model(source))
        return folder

    return put


def build(**options) -> FMRILM:
    torch.manual_seed(1)
    small = {"n_embd": 16, "n_layer": 1, "n_head": 2, "codebook_size": 32, "code_dim": 8}
    config = TokenizerConfig(num_rois=ROIS, num_timestamp=20, patch_size=10, **small)
    lm = LMConfig(**{"base_model": "known", **options})
    return build_fmrilm(ModelConfig(config, lm), FMRITokenizer(config), TEXTS).eval()


def scores(model: FMRILM) -> torch.Tensor:
    torch.manual_seed(5)
    return model.eval().score(*scans(), PROMPTS, CANDIDATES)


def step(model: FMRILM, size: float = 0.05) -> None:
    """Change whatever is trainable, as a step of training would."""
    torch.manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter), alpha=size)


def again(model: FMRILM, folder) -> FMRILM:
    model.save_pretrained(folder)
    return FMRILM.from_pretrained(folder)


@KINDS
@pytest.mark.parametrize("later", [{"peft_tune": True}, {"freeze_llm": True}])
def test_a_fully_tuned_model_is_kept_by_stages_that_train_only_some_of_it(
    named, tmp_path, kind, later
):
    named(kind)
    model = build()
    before = scores(model)
    step(model)  # stage align, all weights
    model = again(model, tmp_path / "align")
    adapt(model, LMConfig(base_model="known", **later))  # stage instruct, some of them
    step(model)
    tuned = scores(model)
    assert (tuned - before).abs().max() > 1e-2
    torch.testing.assert_close(scores(again(model, tmp_path / "inst")), tuned, atol=1e-6, rtol=1e-6)
    third = FMRILM.from_pretrained(tmp_path / "inst")  # and by the stage after
    adapt(third, LMConfig(base_model="known", freeze_llm=True))
    torch.testing.assert_close(scores(again(third, tmp_path / "c")), tuned, atol=1e-6, rtol=1e-6)


@KINDS
@pytest.mark.parametrize("options", [{"peft_tune": True}, {"freeze_llm": True}])
def test_a_network_that_stayed_as_it_was_is_not_copied(named, tmp_path, kind, options):
    named(kind)
    model = build(**options)
    step(model)
    found = again(model, tmp_path / "run")
    assert not list((tmp_path / "run/lm").glob("*.safetensors"))
    torch.testing.assert_close(scores(found), scores(model), atol=1e-6, rtol=1e-6)
    if "peft_tune" in options:  # merged, the network is another
        merged = scores(merge_lora(found))
        kept = scores(again(found, tmp_path / "m"))
        torch.testing.assert_close(kept, merged, atol=1e-6, rtol=1e-6)
        assert list((tmp_path / "m/lm").glob("*.safetensors"))


@KINDS
def test_another_model_of_the_same_name_is_refused(named, tmp_path, kind):
    named(kind)
    build(freeze_llm=True).save_pretrained(tmp_path / "run")
    content = json.loads((tmp_path / "run/lm" / MANIFEST).read_text())
    assert content["base"]["name"] == "known"
    assert not content["is_written"]
    named(kind, seed=3)
    with pytest.raises(InputError, match="'known' as it was then") as error:
        FMRILM.from_pretrained(tmp_path / "run")
    assert "\n" not in str(error.value)


def change(path, what: str) -> None:
    """Damage a safetensors file."""
    state = load_file(path)
    name = next(n for n in sorted(state) if state[n].ndim == 2 or what != "shape")
    if what == "missing":
        del state[name]
    elif what == "embeddings":
        state = {n: v for n, v in state.items() if "embed" not in n and "wte" not in n}
    elif what == "unknown":
        state["another.weight"] = torch.zeros(2)
    elif what == "shape":
        state[name] = state[name][:-1].clone()
    elif what == "value":
        state[name] = state[name] + 1e-3
    if what == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        save_file(state, path, metadata={"format": "pt"})


LM, ADAPTER = "lm/model.safetensors", "lm/adapter/adapter_model.safetensors"


@KINDS
@pytest.mark.parametrize(
    ("file", "what"),
    [
        *[(LM, what) for what in ("missing", "embeddings", "unknown", "shape", "value", "cut")],
        *[(ADAPTER, what) for what in ("missing", "unknown", "shape", "value", "cut")],
        *[("bridge.safetensors", what) for what in ("missing", "unknown", "shape", "cut")],
        *[
            ("tokenizer/tokenizer.safetensors", what)
            for what in ("missing", "unknown", "shape", "cut")
        ],
    ],
)
def test_a_weight_that_is_not_the_saved_one_stops_loading_in_one_sentence(
    named, tmp_path, kind, file, what
):
    named(kind)
    model = build(base_model=str(tmp_path / "hub"), peft_tune=True)
    model.save_pretrained(tmp_path / "run")
    change(tmp_path / "run" / file, what)
    with pytest.raises(InputError) as error:
        FMRILM.from_pretrained(tmp_path / "run")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", [LM, ADAPTER, f"lm/{MANIFEST}"])
def test_a_file_that_is_gone_stops_loading_in_one_sentence(named, tmp_path, file):
    named("qwen3")
    build(base_model=str(tmp_path / "hub"), peft_tune=True).save_pretrained(tmp_path / "run")
    (tmp_path / "run" / file).unlink()
    with pytest.raises(InputError):
        FMRILM.from_pretrained(tmp_path / "run")


@KINDS
@pytest.mark.parametrize("what", ["missing", "embeddings", "shape"])
def test_a_base_model_without_all_its_weights_is_refused(named, kind, what):
    folder = named(kind)
    change(folder / "model.safetensors", what)
    with pytest.raises(InputError) as error:
        load_language_model(LMConfig(base_model=str(folder)))
    assert "\n" not in str(error.value)
