"""The original's encoder, quantizer and decoder under the names they have here.

Tensor letters: R regions, D features of a token, P time points per patch, T' time patches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fmrilm.config.schema import TokenizerConfig
from fmrilm.errors import InputError
from fmrilm.importing.layouts import Known, Layout, Sizes, State, depth_of, setting
from fmrilm.tokenizer.tokenizer import FMRITokenizer

Weights = dict[str, Tensor]


def count_steps(
    state: State, layout: Layout, sizes: Sizes, settings: Any, num_timestamp: int | None
) -> Known:
    """Return how many time patches a scan has: the encoder's own weights do not show it.

    Raises
    ------
    InputError
        If nothing shows it, or two sources contradict each other.
    """
    sources: dict[str, int] = {}
    patch, width = sizes.patch_size.value, sizes.width.value
    for name in (f"{layout.root}decode_task_layer_raw.0.weight",):
        if name in state:
            sources["shapes of the decoder"] = state.shape(name)[1] // width
    name = f"{layout.root}decoder.conv_out.0.weight"
    if name in state and state.shape(name)[1] > width:
        sources["shapes of the decoder"] = state.shape(name)[1] // width
    if num_timestamp is not None:
        if num_timestamp % patch:
            raise InputError(f"--num_timestamp {num_timestamp} is no multiple of the patch {patch}")
        sources["--num_timestamp"] = num_timestamp // patch
    points, tokens = setting(settings, "num_timestamp"), setting(settings, "num_fmri_tokens")
    if isinstance(points, int) and points >= patch:
        sources["the checkpoint's num_timestamp"] = points // patch
    elif isinstance(tokens, int):
        sources["the checkpoint's num_fmri_tokens"] = tokens // sizes.num_rois.value
    if not sources:
        raise InputError(
            "nothing in the checkpoint shows how many time points a scan has: give --num_timestamp "
            f"({patch} for one time patch, as in the released checkpoints)"
        )
    if len(set(sources.values())) > 1:
        told = ", ".join(f"{source}: {value}" for source, value in sources.items())
        raise InputError(f"the number of time patches is contradictory ({told})")
    source, steps = next(iter(sources.items()))
    return Known(steps, source)


def import_tokenizer(
    state: State, layout: Layout, sizes: Sizes, steps: int, codebook_size: int = 1
) -> FMRITokenizer:
    """Return the tokenizer of a checkpoint, in evaluation mode.

    An encoder alone where the checkpoint is a language model's or a masked autoencoder.

    Parameters
    ----------
    state : State
    layout : Layout
    sizes : Sizes
    steps : int
        Time patches of a scan.
    codebook_size : int
        Codes that a language model's head names, where the checkpoint has no codebook.
    """
    fields: dict[str, Any] = {
        "patch_size": sizes.patch_size.value,
        "num_rois": sizes.num_rois.value,
        "num_timestamp": steps * sizes.patch_size.value,
        "n_embd": sizes.width.value,
        "n_layer": sizes.depth.value,
        "n_head": sizes.heads.value,
        "qk_norm": sizes.qk_norm.value,
        "gate_attn": sizes.gate_attn.value,
        "attention": "full",
        "roi_profile": False,
        "data_start": False,
        "quantizer": "none",
        "codebook_size": codebook_size,
    }
    weights = encoder_weights(state, layout, fields, steps)
    if not layout.has_language_model and layout.name != "MAE":
        read = first_release_codes if layout.name == "A" else second_release_codes
        weights |= read(state, layout, fields, steps)
    with torch.device("meta"):
        tokenizer = FMRITokenizer(TokenizerConfig(**fields))
    expected = {name: tuple(value.shape) for name, value in tokenizer.state_dict().items()}
    for name, value in weights.items():
        if expected.get(name) != tuple(value.shape):
            raise InputError(
                f"the checkpoint's {name} has shape {list(value.shape)}, where the other tensors "
                f"make it {list(expected.get(name, ()))}"
            )
    tokenizer.load_state_dict({k: v.contiguous() for k, v in weights.items()}, assign=True)
    return tokenizer.eval()


def encoder_weights(state: State, layout: Layout, fields: dict[str, Any], steps: int) -> Weights:
    """Return the encoder's weights; note in ``fields`` whether it has a class token."""
    p, width, regions = layout.encoder, fields["n_embd"], fields["num_rois"]
    weights = {
        "patch_embed.weight": state.take(f"{p}patch_embed.proj.weight").reshape(width, -1),
        "patch_embed.bias": _bias(state, f"{p}patch_embed.proj.bias", width),
        "roi_embed": state.take(f"{p}pos_embed").reshape(-1, width),
        "step_embed": torch.zeros(steps, width),
        "encoder.norm.weight": state.take(f"{p}{layout.norm}.weight"),
        "encoder.norm.bias": state.take(f"{p}{layout.norm}.bias"),
    }
    assert len(weights["roi_embed"]) == regions
    tokens = [f"{p}{name}" for name in ("cls_token", "cls_embed") if f"{p}{name}" in state]
    if tokens:
        token = state.take(tokens[0]).reshape(width)
        if f"{p}pos_embed_cls" in state:
            token = token + state.take(f"{p}pos_embed_cls").reshape(width)
        weights["cls_token"] = token
        fields["cls_token"] = True
    return weights | block_weights(state, f"{p}blocks.", "encoder.blocks.", fields)


def block_weights(state: State, prefix: str, ours: str, fields: dict[str, Any]) -> Weights:
    """Return the weights of all transformer blocks under a prefix."""
    weights: Weights = {}
    width = fields["n_embd"]
    for i in range(depth_of(state, prefix)):
        p, o = f"{prefix}{i}.", f"{ours}{i}."
        norms = ["norm1", "norm2"]
        if fields["qk_norm"]:
            norms += ["attn.q_norm", "attn.k_norm"]
        for norm in norms:
            weights[f"{o}{norm}.weight"] = state.take(f"{p}{norm}.weight")
            size = len(weights[f"{o}{norm}.weight"])
            weights[f"{o}{norm}.bias"] = _bias(state, f"{p}{norm}.bias", size)
        layers = {"attn.qkv": "attn.qkv", "attn.proj": "attn.proj"}
        layers |= {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3"}
        for theirs, name in layers.items():
            weight = state.take(f"{p}{theirs}.weight")
            weights[f"{o}{name}.weight"] = weight
            weights[f"{o}{name}.bias"] = _bias(state, f"{p}{theirs}.bias", len(weight))
        # A branch that is scaled (LayerScale) is one whose last layer is.
        for scale, name in (("ls1.gamma", "attn.proj"), ("ls2.gamma", "mlp.3")):
            if f"{p}{scale}" in state:
                gamma = state.take(f"{p}{scale}")
                weights[f"{o}{name}.weight"] = weights[f"{o}{name}.weight"] * gamma[:, None]
                weights[f"{o}{name}.bias"] = weights[f"{o}{name}.bias"] * gamma
    if not weights or len(weights[f"{ours}0.norm1.weight"]) != width:
        raise InputError(f"the blocks of {prefix} are not as wide as the encoder's ({width})")
    return weights


def first_release_codes(
    state: State, layout: Layout, fields: dict[str, Any], steps: int
) -> Weights:
    """Return quantizer and decoder of layout A; note in ``fields`` what they are."""
    p, d = layout.root, f"{layout.root}decoder_raw."
    embed = "patch_embed.proj" if f"{d}patch_embed.proj.weight" in state else "patch_embed"
    weights = _decoder_weights(state, d, embed, "norm", fields, steps)
    weights |= _two_layers(state, f"{p}encode_task_layer.", "quantizer.project_in.")
    weights |= _two_layers(state, f"{p}decode_task_layer_raw.", "head.")
    codes = state.take(f"{p}quantize.embedding.weight")
    weights["quantizer.codebook"] = codes
    count = torch.ones(len(codes))
    for name in ("quantize.cluster_size", "quantize.embedding.cluster_size"):
        if f"{p}{name}" in state:
            count = state.take(f"{p}{name}").reshape(-1)
    weights["quantizer.ema_count"] = count
    weights["quantizer.ema_sum"] = codes * count[:, None]
    fields |= {"quantizer": "vq", "code_distance": "euclidean"}
    fields |= {"code_head": "tanh", "output_head": "region"}
    fields |= {"codebook_size": len(codes), "code_dim": codes.shape[1]}
    return weights


def second_release_codes(
    state: State, layout: Layout, fields: dict[str, Any], steps: int
) -> Weights:
    """Return quantizer and decoder of layout B; note in ``fields`` what they are."""
    p, d = layout.root, f"{layout.root}decoder."
    weights = _decoder_weights(state, d, "decoder_embed", "ln_post", fields, steps)
    weights |= _two_layers(state, f"{layout.encoder}conv_out.", "quantizer.project_in.")
    weights |= _two_layers(state, f"{d}conv_out.", "head.")
    codes = state.take(f"{p}quantize.embedding.weight")
    weights["quantizer.codebook"] = codes
    is_of_region = weights["head.0.weight"].shape[1] > fields["n_embd"]
    fields |= {"quantizer": "vq_learned", "beta": 0.25, "decoder_eps": 1e-5}
    fields |= {"code_head": "tanh", "output_head": "region" if is_of_region else "tanh"}
    fields |= {"codebook_size": len(codes), "code_dim": codes.shape[1]}
    return weights


def _decoder_weights(
    state: State, prefix: str, embed: str, norm: str, fields: dict[str, Any], steps: int
) -> Weights:
    """Return the decoder's transformer; codes are widened once, by the quantizer's last layer."""
    width = fields["n_embd"]
    widen = state.take(f"{prefix}{embed}.weight")
    fields["dec_layer"] = depth_of(state, f"{prefix}blocks.")
    return {
        "quantizer.project_out.weight": widen.reshape(len(widen), -1),
        "quantizer.project_out.bias": _bias(state, f"{prefix}{embed}.bias", len(widen)),
        "decoder_embed.weight": torch.eye(width),
        "decoder_embed.bias": torch.zeros(width),
        "decoder_roi_embed": state.take(f"{prefix}pos_embed").reshape(-1, width),
        "decoder_step_embed": torch.zeros(steps, width),
        "decoder.norm.weight": state.take(f"{prefix}{norm}.weight"),
        "decoder.norm.bias": state.take(f"{prefix}{norm}.bias"),
        **block_weights(state, f"{prefix}blocks.", "decoder.blocks.", fields),
    }


def _two_layers(state: State, prefix: str, ours: str) -> Weights:
    weights = {}
    for layer in (0, 2):
        weight = state.take(f"{prefix}{layer}.weight")
        weights[f"{ours}{layer}.weight"] = weight
        weights[f"{ours}{layer}.bias"] = _bias(state, f"{prefix}{layer}.bias", len(weight))
    return weights


def _bias(state: State, name: str, size: int) -> Tensor:
    """Return a layer's offset; zero where the original has none."""
    return state.take(name) if name in state else torch.zeros(size)
