"""Is a text true of a scan? Its claims against the scan's measures, without a language model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fmrilm.descriptors.base import DESCRIPTORS
from fmrilm.descriptors.text.claims import Claim, parse_claims
from fmrilm.descriptors.text.facts import Quantity, split_name
from fmrilm.descriptors.text.lexicon import Lexicon
from fmrilm.descriptors.text.wording import category

SUPPORTED, CONTRADICTED, UNVERIFIABLE = "supported", "contradicted", "unverifiable"


@dataclass(frozen=True)
class Verdict:
    """A claim, whether it holds, and what is wrong with it.

    ``wrong`` names the parts that do not fit: direction, strength, z, value, rank.
    """

    claim: Claim
    verdict: str
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """The verdicts on a text."""

    verdicts: tuple[Verdict, ...]

    def count(self, verdict: str) -> int:
        """Return how many claims are ``supported``, ``contradicted`` or ``unverifiable``."""
        return sum(item.verdict == verdict for item in self.verdicts)

    @property
    def is_true(self) -> bool:
        """Whether the text makes claims and every one of them is supported."""
        return bool(self.verdicts) and self.count(SUPPORTED) == len(self.verdicts)

    @property
    def precision(self) -> float:
        """Share of supported claims among those that can be checked; NaN without any."""
        checked = len(self.verdicts) - self.count(UNVERIFIABLE)
        return self.count(SUPPORTED) / checked if checked else math.nan

    @property
    def direction_accuracy(self) -> float:
        """Share of claims whose direction is right, whatever their strength and numbers.

        Over the claims that state a direction and can be checked; NaN without any.
        """
        told = [v for v in self.verdicts if v.claim.direction and v.verdict != UNVERIFIABLE]
        right = [v for v in told if not {"direction", "rank"} & set(v.wrong)]
        return len(right) / len(told) if told else math.nan


def verify(
    text: str,
    measures: Mapping[str, Any],
    place_names: Mapping[str, str] | None = None,
    z_tolerance: float | None = None,
) -> Verification:
    """Return which claims of a text the measures of a scan support.

    Parameters
    ----------
    text : str
        A description, by whomever it was written.
    measures : mapping of str to float
        Measures and their z under ``<measure>_z``: a row of ``<family>_descriptors.csv``, of
        several families together where the text is of several.
    place_names : mapping of str to str, optional
        Names of regions, ``Regions.place_names()``, for texts of that family.
    z_tolerance : float, optional
        How far a z may lie from the measured one; None: within rounding.

    Returns
    -------
    Verification
        With one verdict per claim: supported, contradicted, or unverifiable (the measure does not
        exist, or the scan does not have it).

    Notes
    -----
    Deterministic. It understands the sentences of :class:`Grammar` and plain rewordings; a claim
    that is put in another way is not seen, so a text without claims is not thereby true. A
    deviation that the text states without strength counts as right from |z| > 1 on.

    Examples
    --------
    >>> row = {"modularity": 0.41, "modularity_z": 1.5}
    >>> verify("Modularity is somewhat lower (z = -1.50).", row).count("contradicted")
    1
    """
    lexicon = make_lexicon(measures, place_names)
    claims = parse_claims(text, lexicon)
    return Verification(
        tuple(_judge(claim, measures, lexicon.quantities, z_tolerance) for claim in claims)
    )


def known_quantities() -> dict[str, Quantity]:
    """Return the quantities of all registered families, by key."""
    return {q.key: q for _, family in DESCRIPTORS.items() for q in family.quantities}


_LEXICONS: dict[tuple[Any, ...], Lexicon] = {}


def make_lexicon(measures: Iterable[str], place_names: Mapping[str, str] | None = None) -> Lexicon:
    """Return the lexicon of these measures, made once: texts are verified by the thousand."""
    names = set(measures)
    columns = [name for name in measures if f"{name}_z" in names]
    key = (tuple(columns), tuple((place_names or {}).items()), tuple(DESCRIPTORS))
    if key not in _LEXICONS:
        if len(_LEXICONS) > 8:
            _LEXICONS.clear()
        _LEXICONS[key] = Lexicon(known_quantities().values(), columns, place_names)
    return _LEXICONS[key]


def _judge(
    claim: Claim,
    measures: Mapping[str, Any],
    quantities: Mapping[str, Quantity],
    z_tolerance: float | None,
) -> Verdict:
    name = claim.measure if claim.measure in measures else _swapped(claim.measure)
    if name in measures:
        claim = replace(claim, measure=name)
    if name not in measures or not _is_number(measures[name]):
        return Verdict(claim, UNVERIFIABLE)
    value = float(measures[name])
    z = measures.get(f"{name}_z")
    wrong = []
    if claim.direction in ("strongest", "weakest"):
        if not _holds_rank(name, claim, measures):
            wrong.append("rank")
    elif claim.direction or claim.z:
        if z is None or not _is_number(z):
            return Verdict(claim, UNVERIFIABLE)
        wrong += _wrong_deviation(claim, float(z), z_tolerance)
    if claim.value:
        quantity = quantities.get(split_name(name)[0])
        shown = quantity.shown(value) if quantity else value
        if not _is_near(claim.value, shown, None):
            wrong.append("value")
    return Verdict(claim, CONTRADICTED if wrong else SUPPORTED, tuple(wrong))


def _wrong_deviation(claim: Claim, z: float, tolerance: float | None) -> list[str]:
    strength, _, direction = category(z).rpartition(" ")
    wrong = []
    if claim.direction and claim.direction != direction:
        wrong.append("direction")
    elif claim.strength and claim.strength != strength:
        wrong.append("strength")
    if claim.z and not _is_near(claim.z, z, tolerance):
        wrong.append("z")
    return wrong


def _holds_rank(name: str, claim: Claim, measures: Mapping[str, Any]) -> bool:
    """Return whether the measure is among the first (last) ones of its quantity in this scan."""
    quantity = split_name(name)[0]
    values = sorted(
        (
            float(value)
            for other, value in measures.items()
            if not other.endswith("_z") and split_name(other)[0] == quantity and _is_number(value)
        ),
        reverse=claim.direction == "strongest",
    )
    limit = values[min(claim.rank, len(values)) - 1]
    value = float(measures[name])
    return value >= limit if claim.direction == "strongest" else value <= limit


def _is_near(written: str, actual: float, tolerance: float | None) -> bool:
    digits = len(written.partition(".")[2])
    allowed = 0.5 * 10**-digits + 1e-9 if tolerance is None else tolerance
    return abs(float(written) - actual) <= allowed


def _swapped(measure: str) -> str:
    """Return the name with its two networks the other way round."""
    quantity, places = split_name(measure)
    return "__".join((quantity, *places[::-1]))


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
