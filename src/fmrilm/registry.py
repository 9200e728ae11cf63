"""Name -> object tables, one per kind (quantizers, descriptors, tasks, ...)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from fmrilm.errors import InputError

T = TypeVar("T")


def suggest(name: str, known: list[str]) -> str:
    """Return " (did you mean 'x'?)" for the nearest known name, or an empty string."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


class Registry(Generic[T]):
    """A named table of one kind of thing.

    Parameters
    ----------
    kind : str
        What the entries are, used in error messages, e.g. ``"quantizer"``.

    Examples
    --------
    >>> QUANTIZERS = Registry("quantizer")
    >>> @QUANTIZERS.register("identity")
    ... class Identity: ...
    >>> QUANTIZERS["identity"] is Identity
    True
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that stores its argument under ``name``."""

        def store(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return store

    def replace(self, name: str, entry: T) -> None:
        """Store an entry under ``name``, whatever was there."""
        self._entries[name] = entry

    def __getitem__(self, name: str) -> T:
        if name not in self:
            known = sorted(self._entries)
            hint = suggest(str(name), known)
            raise InputError(f"unknown {self.kind} {name!r}{hint}; known: {', '.join(known)}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries  # of a file it may be a list

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> list[tuple[str, T]]:
        """Return the (name, entry) pairs in the order of registration."""
        return list(self._entries.items())
