"""``key=value`` of the command line as options; values are YAML, paths are what they are."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from fmrilm.errors import InputError
from fmrilm.readers import load_yaml, reading

_LISTS = ("dataset_dir",)  # of paths


def read_pair(pair: str, paths: Collection[str] = ()) -> Any:
    """Return a ``key=value`` pair as a tree of omegaconf.

    Parameters
    ----------
    pair : str
        ``section.name=value``; the value is YAML.
    paths : collection of str
        Last words of the keys whose values are paths, in which every character is allowed.

    Raises
    ------
    InputError
        If it cannot be read.

    Examples
    --------
    >>> read_pair("data.dataset_dir=[data/a[1], data/b]", ["dataset_dir"]).data.dataset_dir
    ['data/a[1]', 'data/b']
    """
    key, mark, text = pair.partition("=")
    where = repr(pair[:200])
    parts = key.replace("-", "_").split(".")
    if not mark or not all(part.isidentifier() or part.isdigit() for part in parts):
        raise InputError(f"{where} is not an option: expected section.name=value")
    name = parts[-1]
    value: Any
    if name in _LISTS:
        value = split_paths(text)
    elif name in paths and not _is_quoted(text):
        value = None if text in ("", "null", "~") else text
    else:
        with reading(where, "put a value with [ ] { } : # in it between quotes"):
            value = load_yaml(text)
    tree = value
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return to_tree(tree, where)


def split_paths(text: str) -> list[str]:
    """Return the paths in ``[one, two]``, in which every character is allowed.

    Commas and quotation marks set paths apart only where the whole is not a path that exists.
    """
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    for whole in (text, inner):
        if whole.strip() and _exists(whole):
            return [whole]
    if "'" in inner or '"' in inner:
        with reading(repr(text[:200]), "put every path between quotes"):
            content = load_yaml(f"[{inner}]")
        if not all(isinstance(item, str) for item in content):
            raise InputError(f"{text[:200]!r} is not a list of paths: put each between quotes")
        return list(content)
    return [part.strip() for part in inner.split(",") if part.strip()]


def to_tree(value: Any, where: str) -> Any:
    """Return values as a tree of omegaconf; ``${`` in them, which it would look up, is refused.

    Raises
    ------
    InputError
        If there is one, or a key that is not text.
    """
    from omegaconf import OmegaConf

    _check(value, where)
    with reading(where, "correct it"):
        return OmegaConf.create(value)


def _check(value: Any, where: str) -> None:
    if isinstance(value, str) and "${" in value:
        raise InputError(f"{where}: '${{' cannot stand in {value[:60]!r}: write the value itself")
    if isinstance(value, dict):
        for key, item in value.items():
            _check(key, where)
            _check(item, where)
    elif isinstance(value, list):
        for item in value:
            _check(item, where)


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False
