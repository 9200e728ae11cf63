"""Which of the original's layouts a checkpoint has, told from its keys and shapes.

A is the first release, B the one after it (encoder and decoder as classes of their own), MAE a
masked autoencoder. Each comes as a tokenizer of stage 1 or inside a language model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fmrilm.errors import InputError

# width, depth -> heads; shapes do not show them.
NAMED_SIZES = {
    (192, 4): 3,
    (384, 6): 4,
    (384, 12): 6,
    (512, 8): 8,
    (768, 12): 12,
    (1024, 24): 16,
    (1280, 32): 16,
    (1408, 40): 16,
}
WRAPPERS = ("_orig_mod.", "module.")  # of torch.compile and of parallel training


class State:
    """The tensors of a checkpoint, and which of them were used.

    Parameters
    ----------
    tensors : mapping of str to Tensor
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors = unwrap(tensors)
        self.used: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    @property
    def names(self) -> list[str]:
        """All keys, without the prefixes of wrappers."""
        return list(self._tensors)

    @property
    def unused(self) -> list[str]:
        """The keys that nothing has asked for yet."""
        return [name for name in self._tensors if name not in self.used]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises
        ------
        InputError
            If the checkpoint has no such tensor.
        """
        return tuple(self.raw(name).shape)

    def raw(self, name: str) -> Tensor:
        """Return a tensor as it is in the file."""
        if name not in self._tensors:
            raise InputError(f"the checkpoint has no {name}, which its layout needs")
        return self._tensors[name]

    def keep(self, name: str) -> Tensor:
        """Return a tensor as it is in the file and note that it was used."""
        self.used.add(name)
        return self.raw(name)

    def take(self, name: str) -> Tensor:
        """Return a tensor in float32 and note that it was used."""
        return self.keep(name).float()


def unwrap(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return tensors by their names without the prefixes of wrappers."""
    clean: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise InputError(f"the checkpoint's {name} is a {type(tensor).__name__}, no tensor")
        if not isinstance(name, str):
            raise InputError(f"the checkpoint has a tensor named {name!r}: its names are text")
        short = name.replace("_orig_mod.", "")
        while short.startswith(WRAPPERS):
            short = short.split(".", 1)[1]
        if short in clean:
            raise InputError(f"the checkpoint has {short} twice, once inside a wrapper")
        clean[short] = tensor
    return clean


@dataclass(frozen=True)
class Layout:
    """Where the parts of a checkpoint are."""

    name: str  # A | B | MAE
    encoder: str  # prefix of the encoder's keys
    norm: str  # name of the norm behind its blocks
    has_language_model: bool

    @property
    def root(self) -> str:
        """Prefix of what the encoder is a part of."""
        return self.encoder.removesuffix("encoder.")


def detect(state: State) -> Layout:
    """Return the layout of a checkpoint.

    Raises
    ------
    InputError
        If it has no encoder, or more than one, or one of no known layout.
    """
    first = "blocks.0.attn.qkv.weight"
    prefixes = [name.removesuffix(first) for name in state.names if name.endswith(first)]
    prefixes = [p for p in prefixes if f"{p}patch_embed.proj.weight" in state]
    prefixes = [p for p in prefixes if not re.search(r"decoder\w*\.$", p)]
    if len(prefixes) != 1:
        raise InputError(
            f"the checkpoint has {len(prefixes)} encoders (blocks beside patch_embed.proj), not "
            "one: it is none of the original's layouts A, B, MAE"
        )
    prefix = prefixes[0]
    has_lm = any(name.startswith("llm.") for name in state.names)
    if f"{prefix}ln_post.weight" in state:
        return Layout("B", prefix, "ln_post", has_lm)
    if f"{prefix}norm.weight" not in state:
        raise InputError(f"{prefix}blocks is followed by neither ln_post nor norm: unknown layout")
    is_mae = f"{prefix}mask_token" in state and f"{prefix}decoder_pred.weight" in state
    return Layout("MAE" if is_mae else "A", prefix, "norm", has_lm)


@dataclass(frozen=True)
class Known:
    """A fact about the model, and where it is known from."""

    value: Any
    source: str


@dataclass(frozen=True)
class Sizes:
    """What the shapes and the checkpoint's own settings say of the encoder."""

    width: Known
    depth: Known
    heads: Known
    patch_size: Known
    num_rois: Known
    qk_norm: Known
    gate_attn: Known


def depth_of(state: State, prefix: str) -> int:
    """Return how many blocks there are under a prefix.

    Raises
    ------
    InputError
        If one of them is missing.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    numbers = {int(match[1]) for name in state.names if (match := pattern.match(name))}
    if numbers != set(range(len(numbers))):
        raise InputError(f"blocks of {prefix} are missing: there are {sorted(numbers)}")
    return len(numbers)


def measure(state: State, layout: Layout, settings: Any, heads: int | None) -> Sizes:
    """Return the encoder's sizes.

    Parameters
    ----------
    state : State
    layout : Layout
    settings : dict
        The checkpoint's own ``conf`` and ``model_args``.
    heads : int, optional
        Given by the user.

    Raises
    ------
    InputError
        If the heads cannot be known, or two sources contradict each other.
    """
    p = layout.encoder
    shape = state.shape(f"{p}patch_embed.proj.weight")
    width, patch_size = shape[0], shape[-1]
    if shape != (width, 1, 1, patch_size):
        raise InputError(f"{p}patch_embed.proj.weight is {list(shape)}, not [width, 1, 1, patch]")
    depth = depth_of(state, f"{p}blocks.")
    rows = state.shape(f"{p}blocks.0.attn.qkv.weight")[0] - 3 * width
    sources: dict[str, int] = {}
    gate = "none" if rows == 0 else "elementwise" if rows == width else "headwise"
    if gate == "headwise":
        sources["rows of the gates"] = rows
    norm = f"{p}blocks.0.attn.q_norm.weight"
    if norm in state:
        sources["shape of q_norm"] = width // state.shape(norm)[0]
    if heads is not None:
        sources["--heads"] = heads
    stated = setting(settings, "n_head")
    if isinstance(stated, int):
        sources["the checkpoint's n_head"] = stated
    named = NAMED_SIZES.get((width, depth))
    if not sources and named is not None:
        sources[f"the named size {width} x {depth}"] = named
    if not sources:
        raise InputError(
            f"an encoder of width {width} and depth {depth} has no named size, and shapes "
            "do not show its attention heads: give --heads"
        )
    if len(set(sources.values())) > 1:
        told = ", ".join(f"{source}: {value}" for source, value in sources.items())
        raise InputError(f"the number of attention heads is contradictory ({told})")
    source, count = next(iter(sources.items()))
    if count < 1 or width % count:
        raise InputError(f"{count} attention heads ({source}) do not divide the width {width}")
    return Sizes(
        Known(width, "shapes"),
        Known(depth, "keys"),
        Known(count, source),
        Known(patch_size, "shapes"),
        Known(state.shape(f"{p}pos_embed")[-2], "shapes"),
        Known(norm in state, "keys"),
        Known(gate, "shapes"),
    )


def setting(settings: Any, name: str) -> Any:
    """Return the value of a setting wherever it stands; None if it is absent or ambiguous."""
    values: list[Any] = []

    def look(node: Any) -> None:
        if isinstance(node, dict):
            if name in node and not isinstance(node[name], (dict, list)):
                values.append(node[name])
            for one in node.values():
                look(one)
        elif isinstance(node, list):
            for one in node:
                look(one)

    look(settings)
    stated = {value for value in values if value is not None}
    return stated.pop() if len(stated) == 1 else None
