"""A text to the claims it makes: which measure, which way, how strong, which number."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fmrilm.descriptors.text.facts import measure_name
from fmrilm.descriptors.text.lexicon import Lexicon, Token

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_CLAUSE = re.compile(r";|,?\s+\b(?:while|whereas|but|although)\b")
_COUNT = re.compile(r"\bon (\d+) of (\d+) regions")


@dataclass(frozen=True)
class Claim:
    """What a text says of one measure.

    Parameters
    ----------
    measure : str
        Column name, e.g. ``fc__Vis__Default``.
    direction : str
        ``higher``, ``lower``, ``typical``, ``strongest``, ``weakest``, or empty.
    strength : str
        ``somewhat``, ``markedly`` or empty.
    z, value : str
        Numbers as they are written, or empty.
    rank : int
        Of a ``strongest`` or ``weakest``: how many are named together.
    text : str
        The clause.
    """

    measure: str
    direction: str = ""
    strength: str = ""
    z: str = ""
    value: str = ""
    rank: int = 0
    text: str = ""


@dataclass
class _Draft:
    quantity: str
    places: tuple[str, ...]
    direction: str = ""
    strength: str = ""
    z: str = ""
    value: str = ""


def parse_claims(text: str, lexicon: Lexicon) -> list[Claim]:
    """Return the claims of a text, in order.

    Understands the sentences of :class:`Grammar` and plain rewordings of them. A mention that
    states neither a direction nor a number is no claim.
    """
    claims = [Claim("n_rois", value=found[1], text=found[0]) for found in _COUNT.finditer(text)]
    for sentence in _SENTENCE.split(text):
        quantity = ""
        for clause in _CLAUSE.split(sentence):
            tokens = lexicon.tokens(clause)
            named = [token.content[0] for token in tokens if token.kind == "quantity"]
            quantity = named[0] if named else quantity
            claims += _claims_of_clause(clause, tokens, quantity, lexicon)
    return claims


def _claims_of_clause(
    clause: str, tokens: list[Token], quantity: str, lexicon: Lexicon
) -> list[Claim]:
    extreme = next((token.content[0] for token in tokens if token.kind == "extreme"), "")
    drafts = _drafts(clause, tokens, quantity, bool(extreme), lexicon)
    claims = []
    for draft in drafts:
        measure = measure_name(draft.quantity, *draft.places)
        if extreme and draft.places:
            rank = sum(bool(other.places) for other in drafts)
            claims.append(
                Claim(measure, extreme, value=draft.value, rank=rank, text=clause.strip())
            )
        elif draft.direction or draft.z or draft.value:
            told = (draft.direction, draft.strength, draft.z, draft.value)
            claims.append(Claim(measure, *told, text=clause.strip()))
    for token in tokens:
        if token.kind == "reading":
            claims.append(Claim(token.content[0], token.content[1], text=clause.strip()))
    return claims


def _drafts(
    clause: str, tokens: list[Token], quantity: str, is_extreme: bool, lexicon: Lexicon
) -> list[_Draft]:
    """Return the targets of a clause with the words and numbers that belong to them.

    A target is a place, or a quantity that has none. Where the first direction comes before the
    first target, a direction holds for the targets after it; otherwise for those before it.
    """
    drafts: list[_Draft] = []
    waiting: list[_Draft] = []
    direction = strength = said = ""  # `said`: a strength whose direction is still to come
    is_within = False
    order = [
        token.kind
        for token in tokens
        if token.kind in ("direction", "places")
        or (token.kind == "quantity" and lexicon.n_places(token.content[0]) == 0)
    ]
    direction_first = order[:1] == ["direction"]
    for token in tokens:
        if token.kind == "strength":
            said = token.content[0]
        elif token.kind == "direction" and not is_extreme:
            direction, strength, said = token.content[0], said, ""
            for draft in waiting:
                draft.direction, draft.strength = direction, strength
            waiting = []
        elif token.kind in ("z", "value") and drafts:
            setattr(drafts[-1], token.kind, token.content[0])
        elif token.kind in ("quantity", "places"):
            if token.kind == "quantity":
                quantity = token.content[0]
                if lexicon.n_places(quantity):
                    continue
                draft = _Draft(quantity, ())
            else:
                places = token.content
                if len(places) == 1 and is_within and lexicon.n_places(quantity) == 2:
                    places = (places[0], places[0])  # "within the visual and limbic networks"
                is_within = len(places) == 2 and places[0] == places[1]
                draft = _Draft(quantity, places)
            drafts.append(draft)
            if direction_first:
                draft.direction, draft.strength = direction, strength
            else:
                waiting.append(draft)
    return [draft for draft in drafts if draft.quantity]
