"""Options in layers: a dataclass of defaults, YAML files over it, ``key=value`` pairs over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmrilm.config.pairs import to_tree
from fmrilm.errors import InputError
from fmrilm.readers import read_yaml, reading, reason
from fmrilm.registry import suggest

EXTENDS = "extends"  # key of a YAML file: the file that it builds on


def open_layers(path: str | Path, behind: tuple[Path, ...] = ()) -> list[tuple[str, Any]]:
    """YAML files as trees of omegaconf, by name: the one that a file ``extends``, then itself.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    InputError
        If one cannot be read, is empty, or extends itself.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: give the path of a YAML file")
    if path.resolve() in behind:
        raise InputError(f"{path} extends itself: take an `{EXTENDS}` line out")
    content = read_yaml(path)
    if not content:
        raise InputError(f"{path} holds no option: write some into it, or leave it out")
    base = content.pop(EXTENDS, None) if isinstance(content, dict) else None
    if base is not None and not isinstance(base, str):
        raise InputError(f"{path}: `{EXTENDS}` takes the name of a YAML file beside it")
    own = [(str(path), to_tree(content, str(path)))]
    if base is None:
        return own
    return open_layers(path.parent / base, (*behind, path.resolve())) + own


def merge_layers(defaults: Any, layers: Sequence[tuple[str, Any]]) -> Any:
    """Options after all layers, in their order; an instance of the class of the defaults.

    Parameters
    ----------
    defaults : dataclass or instance of one
    layers : sequence of (str, DictConfig)
        Where they are from, for what is said of a wrong one.

    Raises
    ------
    InputError
        If a key is unknown or a value has the wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    merged = OmegaConf.structured(defaults)
    for source, layer in layers:
        try:
            merged = OmegaConf.merge(merged, layer)
        except OmegaConfBaseException as error:
            raise InputError(f"{source}: {_explain(error, merged)}") from None
        except Exception as error:  # of a tree that is no tree of options
            raise InputError(f"{source} cannot be read ({reason(error)}): correct it") from None
    with reading(", ".join(source for source, _ in layers) or "the options", "correct it"):
        options = OmegaConf.to_object(merged)
        OmegaConf.structured(options)  # checks the items of lists, which merging does not
    return options


def _explain(error: Any, merged: Any) -> str:
    from omegaconf import DictConfig, OmegaConf

    key = str(error.full_key or error.key)
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(merged, parent) if parent else merged
    if isinstance(node, DictConfig) and leaf not in node:
        known = [str(name) for name in node]
        return f"unknown key {key!r}{suggest(leaf, known)}; known: {', '.join(known)}"
    return f"{key}: {str(error.msg or error).splitlines()[0]}"
