"""The model as Hugging Face builds models: Auto classes, the hub, peft around it, its card."""

import dataclasses
import json
import shutil

import pytest
import torch

from fmrilm import FMRILM, Cohort, FMRIProcessor, FMRITokenizer, evaluate

CANDIDATES = ["Male", "Female"]


@pytest.fixture(scope="module")
def run(runs, tmp_path_factory):
    """A copy of an instruct run, to evaluate and to change."""
    folder = tmp_path_factory.mktemp("transformers") / "run"
    shutil.copytree(runs["instruct"], folder)
    return folder


@pytest.fixture
def scan(cohort_folder, run):
    ready = FMRIProcessor.from_pretrained(run).sample(Cohort(cohort_folder), 0)
    return torch.as_tensor(ready.fmri)[None], torch.as_tensor(ready.roi_mask)[None]


def scores(model, scan):
    return model.score(*scan, ["<|scan|>\nIs it?"], CANDIDATES)


def test_auto_classes_read_what_was_saved(runs, run, scan):
    from transformers import AutoConfig, AutoModel, AutoProcessor, PreTrainedModel

    place = str(run / "model")
    model = AutoModel.from_pretrained(place)
    assert isinstance(model, FMRILM)
    assert isinstance(model, PreTrainedModel)
    torch.testing.assert_close(scores(model, scan), scores(FMRILM.from_pretrained(run), scan))
    assert AutoConfig.from_pretrained(place).lm == model.config.lm
    assert isinstance(AutoProcessor.from_pretrained(place), FMRIProcessor)
    tokenizer = AutoModel.from_pretrained(str(runs["tokenizer"] / "model"))
    assert isinstance(tokenizer, FMRITokenizer)
    assert tokenizer.config.num_rois == model.config.vq_model.num_rois


def test_a_configuration_is_read_back_as_it_was_written(run, tmp_path):
    from transformers import AutoConfig

    config = FMRILM.from_pretrained(run).config
    config.lm = dataclasses.replace(config.lm, top_k=7)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.options() == config.options()
    assert again.lm.top_k == 7


def hub_cache(folder, model, name, revision="a" * 40):
    """A local cache of the hub that holds a model, as huggingface_hub lays it out."""
    entry = folder / f"models--{name.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs/main").write_text(revision)
    (entry / "refs/v1").write_text(revision)
    shutil.copytree(model, entry / "snapshots" / revision)
    return {"cache_dir": folder, "local_files_only": True}


@pytest.mark.parametrize("revision", [None, "v1"])
def test_a_hub_name_is_read_from_the_local_cache(run, scan, tmp_path, revision):
    hub = hub_cache(tmp_path, run / "model", "someone/brains")
    model = FMRILM.from_pretrained("someone/brains", revision=revision, **hub)
    torch.testing.assert_close(scores(model, scan), scores(FMRILM.from_pretrained(run), scan))
    processor = FMRIProcessor.from_pretrained("someone/brains", revision=revision, **hub)
    assert processor.recipes.keys() == FMRIProcessor.from_pretrained(run).recipes.keys()
    with pytest.raises(FileNotFoundError, match="is no folder, and not on the Hugging Face hub"):
        FMRILM.from_pretrained("someone/brains", revision="v2", **hub)


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_a_device_map_changes_no_score(run, scan, device_map):
    model = FMRILM.from_pretrained(run, device_map=device_map)
    torch.testing.assert_close(scores(model, scan), scores(FMRILM.from_pretrained(run), scan))


def test_a_type_is_that_of_the_language_model_alone(run):
    model = FMRILM.from_pretrained(run, dtype=torch.bfloat16)
    assert {p.dtype for p in model.lm.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.tokenizer.parameters()} == {torch.float32}


def test_lora_goes_around_the_whole_model(run, scan, tmp_path):
    from peft import LoraConfig, PeftModel, get_peft_model

    plain = FMRILM.from_pretrained(run)
    names = [name for name, module in plain.lm.named_modules() if name.endswith("q_proj")]
    assert names
    before = scores(plain, scan)
    model = get_peft_model(plain, LoraConfig(target_modules=r"lm\..*q_proj", r=2))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    torch.testing.assert_close(scores(model, scan), before)  # B starts at zero
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    changed = scores(model, scan)
    assert not torch.allclose(changed, before)
    model.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(FMRILM.from_pretrained(run), tmp_path / "adapter")
    torch.testing.assert_close(scores(again, scan), changed)


class Hub:
    """Stands in for the hub: keeps what is uploaded."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, token=None):
        return self

    def create_repo(self, repo_id, private=None, exist_ok=False):
        self.private = private
        return type("Repo", (), {"repo_id": repo_id})

    def upload_folder(self, repo_id, folder_path, revision, commit_message):
        shutil.copytree(folder_path, self.folder)
        return type("Commit", (), {"commit_url": f"https://hub/{repo_id}"})


def test_pushing_takes_the_processor_and_the_card_along(run, scan, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", hub := Hub(tmp_path / "uploaded"))
    model = FMRILM.from_pretrained(run)
    assert model.push_to_hub("me/brains", private=True) == "https://hub/me/brains"
    assert hub.private
    again = FMRILM.from_pretrained(tmp_path / "uploaded")
    torch.testing.assert_close(scores(again, scan), scores(model, scan))
    FMRIProcessor.from_pretrained(tmp_path / "uploaded")
    card = (tmp_path / "uploaded/README.md").read_text()
    assert card == (run / "model/README.md").read_text()


def test_the_card_says_what_the_model_is_and_is_worth(run):
    from huggingface_hub import ModelCard

    before = (run / "model/README.md").read_text()
    assert "Never evaluated" in before
    evaluate([str(run)], baselines="fc", free_text=False, scrutiny=False)
    text = (run / "model/README.md").read_text()
    card = ModelCard(text)
    results = json.loads((run / "evaluation/metrics.json").read_text())["results"]
    assert {r.dataset_type for r in card.data.eval_results} == {r["cohort"] for r in results}
    for result in results:
        for predictor in result["predictors"].values():
            assert predictor["title"] in text
    assert "SYNTHETIC" in text
    assert "synthetic" in card.data.tags
    assert "not for clinical use" in text
    assert "label columns" in text
    assert "people:" in text


def test_a_run_does_not_inherit_the_card_of_its_parent(runs):
    for stage in ("tokenizer", "align", "instruct"):
        assert f"- stage {stage}," in (runs[stage] / "model/README.md").read_text()
