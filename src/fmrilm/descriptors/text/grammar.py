"""Statements to sentences: one grammar, whose choices a seed makes.

The choices touch only synonyms and word order; numbers, signs and networks come from the facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from fmrilm.descriptors.text.facts import Fact, Quantity, Sentence, Statement
from fmrilm.descriptors.text.wording import (
    EXTREMES,
    capitalise,
    category,
    join_words,
    network_name,
    number,
)

REFERENCES = ("Relative to the reference group", "Compared with the cohort", "Against other scans")
DIRECTIONS = {"higher": ("higher", "elevated"), "lower": ("lower", "reduced"), "typical": ()}
MANY = 3  # pairs of networks; more than this are written short


class Grammar:
    """Put statements of one family into words.

    Parameters
    ----------
    quantities : mapping of str to Quantity
        By key.
    place_names : mapping of str to str
        Names of places that are not networks (regions).
    seed : int
        Of the choices; the same seed gives the same text.
    """

    def __init__(
        self,
        quantities: Mapping[str, Quantity],
        place_names: Mapping[str, str] | None = None,
        seed: int = 0,
    ) -> None:
        self.quantities = quantities
        self.place_names = place_names or {}
        self.rng = np.random.default_rng(seed)

    def realise(self, statement: Statement) -> Sentence:
        """Return the sentence of one statement."""
        if statement.kind == "note":
            return Sentence(statement.text, statement.facts)
        writer = {"compare": self._compare, "level": self._level}.get(statement.kind, self._extreme)
        return Sentence(capitalise(writer(statement)) + ".", statement.facts)

    def _pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def _noun(self, quantity: Quantity) -> str:
        return self._pick((quantity.phrase, *quantity.aliases[:2]))

    def _category(self, z: float) -> str:
        words = category(z)
        strength, _, direction = words.partition(" ")
        return f"{strength} {self._pick(DIRECTIONS[direction])}" if direction else words

    def _compare(self, statement: Statement) -> str:
        quantity = self.quantities[statement.facts[0].quantity]
        verb = "are" if quantity.plural else "is"
        ordered = sorted(statement.facts, key=lambda fact: -fact.z)
        groups = [list(group) for _, group in groupby(ordered, key=lambda fact: category(fact.z))]
        groups.sort(key=lambda group: -max(abs(fact.z) for fact in group))
        are_many = len(ordered) > MANY
        clauses = [
            f"{self._category(group[0].z)} {self._targets(group, are_many)}" for group in groups
        ]
        noun = self._noun(quantity)
        form = self.rng.random()
        is_networks = all(
            len(f.places) == 1 and f.places[0] not in self.place_names for f in groups[0]
        )
        if len(clauses) == 1 and is_networks and form < 0.25:
            words = self._category(groups[0][0].z)
            subject = self._targets(groups[0]).removeprefix("in ")
            return f"{subject} {'show' if len(groups[0]) > 1 else 'shows'} {words} {noun}"
        if len(clauses) == 1 and form < 0.5:
            targets = self._targets(groups[0], are_many)
            return f"{targets}, {noun} {verb} {self._category(groups[0][0].z)}"
        opening = self._pick(("", "", *REFERENCES))
        start = f"{opening}, {noun}" if opening else noun
        return f"{start} {verb} {'; '.join(clauses)}"

    def _level(self, statement: Statement) -> str:
        clauses = []
        for fact in statement.facts:
            quantity = self.quantities[fact.quantity]
            direction = category(fact.z)
            reading = quantity.higher if direction.endswith("higher") else quantity.lower
            told = f", {self._pick(('pointing to', 'which suggests'))} {reading}"
            place = f" {self._place(fact)}" if fact.places else ""
            clauses.append(
                f"{self._noun(quantity)}{place} {'are' if quantity.plural else 'is'} "
                f"{self._category(fact.z)} ({self._value(fact)}, z = {number(fact.z)})"
                + (told if reading and direction != "typical" else "")
            )
        return "; ".join(clauses)

    def _extreme(self, statement: Statement) -> str:
        quantity = self.quantities[statement.facts[0].quantity]
        items = [f"{self._place(fact)} ({self._value(fact)})" for fact in statement.facts]
        word = self._pick(_extreme_words(statement.kind, statement.facts[0].value))
        verb = self._pick(("is found", "lies", "occurs"))
        opening = self._pick(("the scan's own {0} {1} {2}", "within this scan, the {0} {1} {2}"))
        return f"{opening.format(word, quantity.phrase, verb)} {join_words(items)}"

    def _value(self, fact: Fact) -> str:
        quantity = self.quantities[fact.quantity]
        text = number(quantity.shown(fact.value))
        return f"{quantity.symbol} = {text}" if quantity.symbol else text

    def _place(self, fact: Fact) -> str:
        names = [self.place_names.get(place, network_name(place)) for place in fact.places]
        if fact.places and fact.places[0] in self.place_names:
            return f"in the {names[0]}"
        if len(names) == 1:
            return f"in the {names[0]} network"
        if names[0] == names[1]:
            return f"within the {names[0]} network"
        return f"between the {names[0]} and {names[1]} networks"

    def _targets(self, facts: Sequence[Fact], are_many: bool = False) -> str:
        """Return the places with their z; several single networks share one ``networks``.

        Where there are many pairs of networks, each is written short: ``visual-limbic``.
        """
        marks = [f"(z = {number(fact.z)})" for fact in facts]
        if are_many and all(len(fact.places) == 2 for fact in facts):
            return join_words([f"{p} {m}" for p, m in zip(_short_pairs(facts), marks, strict=True)])
        is_single = all(len(fact.places) == 1 for fact in facts)
        if is_single and len(facts) > 1:
            names = [self.place_names.get(f.places[0], network_name(f.places[0])) for f in facts]
            listed = join_words([f"{n} {mark}" for n, mark in zip(names, marks, strict=True)])
            of_networks = facts[0].places[0] not in self.place_names
            return f"in the {listed}{' networks' if of_networks else ''}"
        places = [self._place(fact) for fact in facts]
        return join_words([f"{p} {mark}" for p, mark in zip(places, marks, strict=True)])


def _extreme_words(kind: str, value: float) -> Sequence[str]:
    """Return how the highest or lowest value of a scan may be called, by its sign."""
    if kind == "weakest":
        return ("most negative",) if value < 0 else ("weakest", "lowest")
    return ("highest",) if value < 0 else EXTREMES[kind]


def _short_pairs(facts: Sequence[Fact]) -> list[str]:
    """Return ``for visual-limbic``, ``visual-default mode``, ``within limbic``, ..."""
    names = []
    after_pair = False
    for fact in facts:
        first, second = (network_name(place) for place in fact.places)
        is_pair = first != second
        pair = f"{first}-{second}" if after_pair else f"for {first}-{second}"
        names.append(pair if is_pair else f"within {first}")
        after_pair = is_pair
    return names
