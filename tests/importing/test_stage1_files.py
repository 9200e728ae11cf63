"""Checkpoints of stage 1 compute here what the original computes from them."""

import json

import pytest
import torch
from omegaconf import OmegaConf

import original as o
from fmrilm.errors import InputError
from fmrilm.importing.checkpoint import import_checkpoint
from fmrilm.tokenizer.tokenizer import FMRITokenizer


def save(tmp_path, state, **rest):
    path = tmp_path / "stage1.pt"
    torch.save({"model": state, "iter_num": 3, "epoch": 1, "best_loss": 0.5} | rest, path)
    return path


def imported(tmp_path, state, conf=None, **options):
    conf = OmegaConf.create({"model": {"vq_model": conf or {}}})
    path = save(tmp_path, state, conf=conf, optimizer={"state": {}})
    folder = import_checkpoint(path, output=tmp_path / "run", **options)
    return folder, FMRITokenizer.from_pretrained(folder / "model")


@pytest.mark.parametrize("steps", [1, 3])
def test_layout_a_gives_the_same_features_codes_and_series(tmp_path, steps):
    torch.manual_seed(0)
    state = o.stage1_a(steps)
    wrapped = {f"module._orig_mod.{name}": value for name, value in state.items()}
    _folder, tokenizer = imported(tmp_path, wrapped, heads=o.HEADS)
    assert tokenizer.config.num_timestamp == steps * o.P
    x = torch.randn(4, o.R, steps * o.P)
    features = o.encode(state, "VQ.encoder.", "norm", x)
    codes, series = o.reconstruct_a(state, features, steps)
    with torch.no_grad():
        out = tokenizer(x)
    torch.testing.assert_close(out.features, o.by_time(features, steps), atol=1e-5, rtol=1e-5)
    assert torch.equal(out.quantized.indices, o.by_time(codes, steps))
    assert len(codes.unique()) > 3
    torch.testing.assert_close(out.reconstruction, series, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("steps", "gates"), [(1, o.HEADS), (2, o.D), (2, 0)])
def test_layout_b_gives_the_same_features_codes_and_series(tmp_path, steps, gates):
    torch.manual_seed(1)
    state = o.stage1_b(gates=gates)
    conf = {"num_timestamp": steps * o.P}
    _, tokenizer = imported(tmp_path, state, conf)
    x = torch.randn(4, o.R, steps * o.P)
    options = {"qk_norm": True, "gates": gates}
    features = o.encode(state, "quantizer.encoder.", "ln_post", x, **options)
    codes, series = o.reconstruct_b(state, features, steps, **options)
    with torch.no_grad():
        out = tokenizer(x)
    torch.testing.assert_close(out.features, o.by_time(features, steps), atol=1e-5, rtol=1e-5)
    assert torch.equal(out.quantized.indices, o.by_time(codes, steps))
    torch.testing.assert_close(out.reconstruction, series, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("prefix", ["", "quantizer.", "fmri_model.quantizer."])
def test_a_masked_autoencoder_gives_its_features_and_says_that_it_has_no_codes(tmp_path, prefix):
    torch.manual_seed(2)
    state = o.mae()
    renamed = {prefix + name: value for name, value in state.items()}
    folder, tokenizer = imported(tmp_path, renamed, heads=o.HEADS, num_timestamp=2 * o.P)
    x = torch.randn(3, o.R, 2 * o.P)
    features = o.encode(state, "", "norm", x, cls=state["cls_token"])
    with torch.no_grad():
        got = tokenizer.encode(x)
    torch.testing.assert_close(got, o.by_time(features, 2), atol=1e-5, rtol=1e-5)
    for ask in (tokenizer.tokenize, tokenizer.reconstruct):
        with pytest.raises(InputError, match="encoder alone"):
            ask(x)
    assert "decoder of the masked autoencoder" in (folder / "README.md").read_text()


def test_the_card_says_what_is_known_and_what_is_not(tmp_path):
    folder, _ = imported(tmp_path, o.stage1_a(1), heads=o.HEADS)
    card = json.loads((folder / "import.json").read_text())
    assert card["layout"] == "A"
    assert card["stage"] == "tokenizer"
    assert len(card["sha256"]) == 64
    assert card["facts"]["heads"] == {"value": o.HEADS, "source": "--heads"}
    assert card["stated"] == {"iter_num": 3, "epoch": 1, "best_loss": 0.5}
    assert any("optimizer" in one for one in card["not_used"])
    assert any("median" in one for one in card["not_known"])


def test_layer_scale_is_part_of_the_weights(tmp_path):
    state = o.stage1_a(1)
    scaled = dict(state)
    for i in range(o.DEPTH):
        for gamma, layer in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
            p = f"VQ.encoder.blocks.{i}."
            scale = torch.rand(o.D) + 0.5
            scaled[f"{p}{gamma}.gamma"] = scale
            state[f"{p}{layer}.weight"] = state[f"{p}{layer}.weight"] * scale[:, None]
            state[f"{p}{layer}.bias"] = state[f"{p}{layer}.bias"] * scale
    _, tokenizer = imported(tmp_path, scaled, heads=o.HEADS)
    x = torch.randn(2, o.R, o.P)
    expected = o.encode(state, "VQ.encoder.", "norm", x)
    torch.testing.assert_close(tokenizer.encode(x).detach(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", ["A", "B"])
def test_an_imported_tokenizer_goes_on_training(tmp_path, layout):
    from fmrilm.training.build import train_stage
    from small import make_cohort

    state = o.stage1_a(1) if layout == "A" else o.stage1_b()
    folder, before = imported(tmp_path, state, {"n_head": o.HEADS, "num_timestamp": o.P})
    cohort = make_cohort(tmp_path / "cohort", rois=o.R, points=o.P)
    options = [f"data.dataset_dir=[{cohort}]", "train.epochs=1", "tokenizer.clip_weight=0"]
    run = train_stage(
        "tokenizer",
        options,
        config=[folder / "config.yaml"],
        output=tmp_path / "more",
        init=folder,
    )
    after = FMRITokenizer.from_pretrained(run / "model")
    assert not torch.equal(after.quantizer.codebook, before.quantizer.codebook)
    assert not torch.equal(after.patch_embed.weight, before.patch_embed.weight)


def test_an_encoder_alone_cannot_be_trained_on_codes(tmp_path):
    from fmrilm.lm.codes import codes_loss

    _, tokenizer = imported(tmp_path, o.mae(), {"n_head": o.HEADS, "num_timestamp": o.P})
    model = type("Model", (), {"tokenizer": tokenizer})
    with pytest.raises(InputError, match="fmri_only_weight=0"):
        codes_loss(model, torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.long))


def wrong(change):
    state = o.stage1_b()
    change(state)
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (wrong(lambda s: s.update({"quantizer.new.weight": torch.ones(1)})), "unexpected.*new"),
        (
            wrong(lambda s: s.pop("quantizer.encoder.conv_out.2.weight")),
            "no quantizer.encoder.conv",
        ),
        (wrong(lambda s: s.pop("quantizer.encoder.pos_embed")), "no quantizer.encoder.pos_embed"),
        (wrong(lambda s: s.pop("quantizer.encoder.patch_embed.proj.weight")), "0 encoders"),
        (wrong(lambda s: s.update({"module.x_proj.weight": torch.ones(1)})), "twice"),
        (wrong(lambda s: s.update({"x_proj.bias": 3})), "no tensor"),
        (wrong(lambda s: s.update({7: torch.ones(1)})), "a tensor named 7"),
        (
            wrong(lambda s: s.update({"quantizer.quantize.embedding.weight": torch.ones(4, 9)})),
            "shape",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, state, message):
    with pytest.raises(InputError, match=message):
        imported(tmp_path, state, {"num_timestamp": o.P})
    assert not (tmp_path / "run").exists()


def test_what_shapes_do_not_show_is_asked_for(tmp_path):
    path = save(tmp_path, o.stage1_a(1))
    with pytest.raises(InputError, match="--heads"):
        import_checkpoint(path, output=tmp_path / "run")
    path = save(tmp_path, o.stage1_b())
    with pytest.raises(InputError, match="--num_timestamp"):
        import_checkpoint(path, output=tmp_path / "run")
    with pytest.raises(InputError, match=r"contradictory.*q_norm"):
        import_checkpoint(path, output=tmp_path / "run", heads=2, num_timestamp=o.P)
    with pytest.raises(InputError, match="unexpected entry 'extra'"):
        import_checkpoint(save(tmp_path, o.stage1_b(), extra=1), output=tmp_path / "run")


def test_an_entry_whose_name_is_no_text_is_refused(tmp_path):
    torch.save({"model": o.stage1_b(), 7: 1}, tmp_path / "original.pt")
    with pytest.raises(InputError, match="unexpected entry '7'"):
        import_checkpoint(tmp_path / "original.pt", output=tmp_path / "run")
