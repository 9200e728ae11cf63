from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fmrilm.config.flags import FLAGS, read_flags
from fmrilm.config.schema import Config, load_config, save_config
from fmrilm.errors import InputError
from fmrilm.training.options import settle

CONFIGS = Path(__file__).parent.parent / "configs"

# Facts of the original's documented files: keys and values, as its README prints them.
ORIGINAL_MODEL = """
model:
  vq_model:
    patch_size: 160
    n_embd: 768
    num_rois: 450
    num_timestamp: 160
    enc_cls: vit_base
  lm:
    base_model: Qwen/Qwen3-0.6B
    num_fmri_tokens: 450
    fmri_vocab_size: 8192
    use_fmri_lm_head: true
    add_fmri_delimiter: true
    peft_tune: true
    temperature: 0.7
    top_p: 0.8
"""
ORIGINAL_DATASETS = """
datasets:
  UKB:
    targets: [sex, fluidintel_enc]
  ADNI:
    targets: [AD]
"""


def test_the_originals_yaml_files_load_unchanged(tmp_path):
    (tmp_path / "model.yaml").write_text(ORIGINAL_MODEL)
    (tmp_path / "datasets.yaml").write_text(ORIGINAL_DATASETS)
    config = load_config([tmp_path / "model.yaml", tmp_path / "datasets.yaml"])
    assert config.model.vq_model.num_tokens == 450
    assert config.model.vq_model.size == (768, 12, 12)
    assert config.model.lm.peft_tune
    assert config.datasets["ADNI"].targets == ["AD"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_config_loads(path):
    assert isinstance(load_config([path]), Config)


def test_later_layers_win(tmp_path):
    (tmp_path / "a.yaml").write_text("train: {lr: 0.1, epochs: 3}")
    (tmp_path / "b.yaml").write_text("train: {lr: 0.2}")
    config = load_config([tmp_path / "a.yaml", tmp_path / "b.yaml"], ["train.epochs=7"])
    assert (config.train.lr, config.train.epochs) == (0.2, 7)


def test_a_saved_config_loads_as_it_was(tmp_path):
    config = load_config(overrides=["train.lr=0.5", "datasets.UKB.targets=[sex]"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config([tmp_path / "config.yaml"]) == config


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("model.vq_model.patchsize=3", "did you mean 'patch_size'"),
        ("trian.lr=1", "did you mean 'train'"),
        ("train.lr=fast", "could not be converted"),
        ("model.vq_model.patch_size=33", "does not divide"),
        ("model.vq_model.enc_cls=vit_huge", "unknown enc_cls"),
        ("model.lm.num_fmri_tokens=7", "450 regions x 1 time patches make 450"),
        ("model.lm.fmri_input=discrete", "continuous, quantized"),
        ("tokenizer.clip_loss_type=siglipp", "did you mean 'siglip'"),
        ("model.vq_model.quantizer=rfsq", "235,929,600 codes"),
        ("data.cache_gb=-1", "above 0"),
        ("instruct.fewshot_samples=0", "evaluate RUN"),
        ("instruct.fewshot_samples=-1", "0 or more"),
        ("nonsense", "expected key=value"),
    ],
)
def test_a_wrong_value_gets_one_sentence(pair, message):
    with pytest.raises(InputError, match=message) as error:
        load_config(overrides=[pair])
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"no\.yaml"):
        load_config(["no.yaml"])


def test_every_flag_of_the_original_names_a_key():
    config = OmegaConf.structured(Config)
    for key in FLAGS.values():
        assert OmegaConf.select(config, key, throw_on_missing=True) is not None or key in (
            "instruct.fewshot_samples",
            "align.text_corpus",
            "train.deepspeed",
            "train.global_batch_size",
            "train.min_lr",
            "train.tracker_run",
            "train.mixed_precision",
        )


def test_the_documented_command_lines_are_understood():
    words = (
        "--pretrained_ckpt runs/align/ckpt.pt --ckpt_dir runs/inst --cfg_path a.yaml "
        "--lm_name gpt2 --quantizer fsq --desc_type fc,ica --global_fmri_batch_size 64 "
        "--gradient_accumulation_steps 8 --epochs 20 --add_src_info --add_desc "
        "--use_allowed_tokens --save_ckpt train.lr=0.1"
    )
    paths, pairs = read_flags(words.split())
    assert paths == {"init": "runs/align/ckpt.pt", "output": "runs/inst", "config": "a.yaml"}
    config, _ = settle("instruct", [], pairs)
    assert config.train.batch_size == 8
    assert config.data.desc_type == ["fc", "ica"]
    assert config.instruct.add_src_info
    assert config.instruct.add_desc == ["auto"]
    assert config.model.lm.base_model == "gpt2"


@pytest.mark.parametrize("words", [["--quantiser", "vq"], ["loose"]])
def test_an_unknown_flag_is_refused(words):
    with pytest.raises(InputError):
        read_flags(words)


@pytest.mark.parametrize("pair", ["data.desc_type=[{x}]", "instruct.tasks=[[sex]]"])
def test_an_item_of_a_list_that_is_no_word_is_refused(pair):
    with pytest.raises(InputError, match=pair.split("=")[0]):
        load_config(overrides=[pair])


def test_a_file_builds_on_another(tmp_path):
    (tmp_path / "base.yaml").write_text("train: {lr: 0.1, epochs: 3}")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\ntrain: {epochs: 4}")
    config = load_config([tmp_path / "mine.yaml"])
    assert (config.train.lr, config.train.epochs) == (0.1, 4)


@pytest.mark.parametrize(("text", "said"), [
    ("extends: mine.yaml", "extends itself"),
    ("extends: [a, b]", "takes the name of a YAML file"),
    ("extends: gone.yaml", "gone.yaml not found"),
])  # fmt: skip
def test_a_file_that_builds_on_nothing_is_refused(tmp_path, text, said):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises((InputError, FileNotFoundError), match=said):
        load_config([tmp_path / "mine.yaml"])
