"""What a text may state: quantities, facts, and sentences that know which facts they state."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

SEPARATOR = "__"  # between a quantity and its places in the name of a measure


def measure_name(quantity: str, *places: str) -> str:
    """Return the column name of a measure, e.g. ``fc__Vis__Default``."""
    return SEPARATOR.join((quantity, *places))


def split_name(measure: str) -> tuple[str, tuple[str, ...]]:
    """Return the quantity and the places (networks, regions) of a column name."""
    quantity, *places = measure.split(SEPARATOR)
    return quantity, tuple(places)


def _same(value: float) -> float:
    return value


@dataclass(frozen=True)
class Quantity:
    """One kind of number a family measures, and how it is said.

    Parameters
    ----------
    key : str
        First part of the column name.
    phrase : str
        Its name in a sentence, without article, e.g. ``"global efficiency"``.
    aliases : tuple of str
        Other names, used in paraphrases and understood by :func:`fmrilm.descriptors.text.verify`.
    symbol : str
        Written before a value, e.g. ``"r"``; empty: the bare number.
    shown : callable
        From the stored value to the one that is written (Fisher z to r, say).
    higher, lower : str
        What a high and a low value mean, told after a deviation; empty: nothing is told.
    plural : bool
        "fluctuations are", not "fluctuation is".
    """

    key: str
    phrase: str
    aliases: tuple[str, ...] = ()
    symbol: str = ""
    shown: Callable[[float], float] = _same
    higher: str = ""
    lower: str = ""
    plural: bool = False


@dataclass(frozen=True)
class Fact:
    """One measure of one scan: its value and its z against the training scans (NaN: none)."""

    measure: str
    value: float
    z: float

    @property
    def quantity(self) -> str:
        """Key of the quantity."""
        return split_name(self.measure)[0]

    @property
    def places(self) -> tuple[str, ...]:
        """Networks or regions the measure belongs to."""
        return split_name(self.measure)[1]

    @property
    def is_known(self) -> bool:
        """Whether both the value and its z exist."""
        return math.isfinite(self.value) and math.isfinite(self.z)


@dataclass(frozen=True)
class Statement:
    """What one sentence is to say, before it is put into words.

    ``kind`` is ``compare`` (facts against the training scans), ``level`` (values of the scan and
    their z), ``strongest`` or ``weakest`` (the scan's own extremes, no cohort), or ``note`` (the
    ``text`` as it is).
    """

    kind: str
    facts: tuple[Fact, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Sentence:
    """A sentence and its provenance: the facts it states."""

    text: str
    facts: tuple[Fact, ...] = ()
