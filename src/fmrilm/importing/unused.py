"""What a checkpoint holds that reading does not need: a list, not a guess."""

from __future__ import annotations

import re

import torch

from fmrilm.errors import InputError
from fmrilm.importing.language import CONSTANTS
from fmrilm.importing.layouts import Layout, State

COUNTS = re.compile(r".*quantize\.(embedding\.)?(cluster_size|embed_avg|initted)$")
CONFUSION = re.compile(r"(\w+\.)*(x_proj|domain_classifier|wte)\.")
MAE_DECODER = re.compile(r"mask_token$|decoder_(embed|pos_embed|blocks|norm|pred)(\.|$)")


def explain_unused(state: State, layout: Layout) -> list[str]:
    """Return why the tensors of a checkpoint that nothing has used are not needed.

    Raises
    ------
    InputError
        If one of them is not known to be needless.
    """
    unexpected: list[str] = []
    counts: dict[str, int] = {}
    for name in state.unused:
        reason = _reason(name, state, layout)
        if reason is None:
            unexpected.append(name)
        else:
            counts[reason] = counts.get(reason, 0) + 1
    if unexpected:
        shown = ", ".join(unexpected[:5]) + (" ..." if len(unexpected) > 5 else "")
        raise InputError(
            f"the checkpoint has {len(unexpected)} unexpected tensors, nothing was imported: "
            f"{shown}"
        )
    return [f"{reason}: {count} tensors" for reason, count in counts.items()]


def _reason(name: str, state: State, layout: Layout) -> str | None:
    """Return why a tensor is not needed; None if nothing says so."""
    if name.startswith("llm."):
        return "constants of the language model" if CONSTANTS.search(name) else None
    if COUNTS.match(name):
        return "running counts of the codebook"
    if CONFUSION.match(name):
        return "domain confusion (x_proj, domain_classifier, wte)"
    inside = name.removeprefix(layout.encoder)
    if layout.name == "MAE" and MAE_DECODER.match(inside):
        return "decoder of the masked autoencoder"
    if layout.has_language_model and re.match(r"conv_out\.[02]\.", inside):
        return "head of the quantizer (conv_out)"
    used = f"{layout.encoder}{name.removeprefix(layout.root)}"
    is_copy = layout.name == "B" and name.startswith(f"{layout.root}patch_embed.") and used in state
    if is_copy and torch.equal(state.raw(name), state.raw(used)):
        return "second copy of patch_embed"
    return None
