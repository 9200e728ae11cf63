"""The vocabulary by which a text is read back: quantities, networks, regions, directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fmrilm.descriptors.text.facts import Quantity, split_name
from fmrilm.descriptors.text.wording import EXTREMES, NETWORK_NAMES, network_aliases

HIGHER = ("higher", "elevated", "increased", "stronger", "greater", "raised", "above average")
LOWER = ("lower", "reduced", "decreased", "weaker", "smaller", "diminished", "below average")
TYPICAL = ("typical", "average", "normal", "unremarkable")
STRENGTHS = ("somewhat", "markedly")


@dataclass(frozen=True)
class Token:
    """One thing recognised in a text: its ``kind``, what it means, and where it starts.

    Kinds: ``quantity`` (key), ``reading`` (key, direction), ``places`` (names of one place or
    two), ``direction`` (higher, lower, typical), ``strength``, ``extreme``, ``z`` and ``value``
    (the number as written).
    """

    kind: str
    content: tuple[str, ...]
    start: int


class Lexicon:
    """Find tokens in a text.

    Parameters
    ----------
    quantities : iterable of Quantity
        What may be spoken of.
    measures : iterable of str
        Names of the measures, from which the networks are known.
    place_names : mapping of str to str
        Names of other places (regions), by label.
    """

    def __init__(
        self,
        quantities: Iterable[Quantity],
        measures: Iterable[str],
        place_names: Mapping[str, str] | None = None,
    ) -> None:
        self.quantities = {quantity.key: quantity for quantity in quantities}
        names = [split_name(measure) for measure in measures]
        self._n_places = {key: len(places) for key, places in names}
        known = place_names or {}
        networks = sorted({p for _, places in names for p in places if p not in known})
        self._phrases: dict[str, tuple[str, tuple[str, ...]]] = {}
        directions: tuple[tuple[str, ...], ...] = (HIGHER, LOWER, TYPICAL)
        for synonyms in directions:
            for word in synonyms:
                self._phrases[word] = ("direction", synonyms[:1])
        for word in STRENGTHS:
            self._phrases[word] = ("strength", (word,))
        for kind, words in EXTREMES.items():
            for word in words:
                self._phrases[word] = ("extreme", (kind,))
        self._places: dict[str, str] = {}
        for label in (*NETWORK_NAMES, *networks):
            for name in network_aliases(label):
                self._places.setdefault(name.lower(), label)
        for label in networks:  # a cohort's own labels win over the usual abbreviations
            for name in network_aliases(label):
                self._places[name.lower()] = label
        for label, name in known.items():
            self._places[name.lower()] = label
        for quantity in self.quantities.values():
            for phrase in (quantity.phrase, *quantity.aliases):
                self._phrases[phrase.lower()] = ("quantity", (quantity.key,))
            for direction in ("higher", "lower"):
                reading = getattr(quantity, direction)
                if reading:
                    self._phrases[reading.lower()] = ("reading", (quantity.key, direction))
        self._pattern = re.compile(
            "|".join((self._pair(), self._numbers(), self._words())), re.IGNORECASE
        )

    def n_places(self, quantity: str) -> int:
        """Return how many places a measure of this quantity names: 0, 1 or 2 (0: unknown)."""
        return self._n_places.get(quantity, 0)

    def tokens(self, text: str) -> list[Token]:
        """Return what is recognised in a text, in order."""
        return [self._token(match) for match in self._pattern.finditer(text)]

    def _token(self, match: re.Match[str]) -> Token:
        for first, second in (("first", "second"), ("left", "right")):
            if match[first]:
                places = (self._label(match[first]), self._label(match[second]))
                return Token("places", places, match.start())
        if match["z"]:
            return Token("z", (match["z"].replace("\u2212", "-"),), match.start())
        if match["value"]:
            return Token("value", (match["value"].replace("\u2212", "-"),), match.start())
        word = _plain(match["word"])
        if word in self._phrases:
            return Token(*self._phrases[word], match.start())
        place = self._label(word)
        is_within = bool(match["within"])
        return Token("places", (place, place) if is_within else (place,), match.start())

    def _label(self, name: str) -> str:
        return self._places[_plain(name)]

    def _pair(self) -> str:
        names = _alternatives(self._places)
        joined = rf"between\s+(?:the\s+)?(?P<first>{names})(?:\s+networks?)?\s+and\s+(?:the\s+)?"
        short = rf"(?<![\w-])(?P<left>{names})[-\u2013](?P<right>{names})(?![\w-])"
        return rf"\b{joined}(?P<second>{names})\b|{short}"

    @staticmethod
    def _numbers() -> str:
        number = r"[-+\u2212]?\d+(?:\.\d+)?"
        return (
            rf"\bz(?:-score)?\s*(?:=|of)\s*(?P<z>{number})|(?<=[(=,\s])(?P<value>{number})(?=[),;])"
        )

    def _words(self) -> str:
        names = _alternatives([*self._places, *self._phrases])
        return rf"(?P<within>\bwithin\s+(?:the\s+)?)?(?<![\w-])(?P<word>{names})(?![\w-])"


def _plain(words: str) -> str:
    return re.sub(r"\s+", " ", words.lower())


def _alternatives(words: Iterable[str]) -> str:
    """Return a pattern of the words, the longest first."""
    ordered = sorted(set(words), key=lambda word: (-len(word), word))
    return "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in ordered)
