"""The repetition time of a scan: who says what, and whether it makes sense."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fmrilm.errors import InputError
from fmrilm.readers import read_json, reading

LOWEST_T_R, HIGHEST_T_R = 0.2, 10.0  # seconds
_TOLERANCE = 0.01  # relative difference of two statements of the TR that is not worth a note
_UNSET = 1.0  # seconds: what programs write that do not know the TR
_THOUSAND = (500.0, 2000.0)  # a ratio in between is one of seconds and milliseconds


def is_plausible(t_r: float) -> bool:
    """Whether a repetition time in seconds can be one of fMRI."""
    return LOWEST_T_R <= t_r <= HIGHEST_T_R


def check_t_r(name: str, t_r: float) -> None:
    """Raise :class:`InputError` if a repetition time is outside 0.2 to 10 s."""
    if not is_plausible(t_r):
        raise InputError(f"{name} {t_r:g} s {_outside(t_r)}")


def _outside(t_r: float) -> str:
    text = f"is outside {LOWEST_T_R:g} to {HIGHEST_T_R:g} s"
    return f"{text} ({t_r:g} ms?)" if is_plausible(t_r / 1000) else text


def settle_t_r(statements: Mapping[str, float], path: Path) -> tuple[str, float, list[str]]:
    """Return which statement of the repetition time holds, its value and notes on the others.

    Parameters
    ----------
    statements : mapping of str to float
        Source (``setting``, ``sidecar``, ``header``, ``store``) to seconds, in the order in which
        they are believed; none that is unknown.
    path : Path
        The scan, for messages.

    Raises
    ------
    InputError
        If two of them differ by the factor of seconds and milliseconds, none lies within 0.2 to
        10 s, or a header that nothing confirms says exactly 1 s.
    """
    if "setting" in statements:
        check_t_r("t_r", statements["setting"])
        sound = ["setting"]
    else:
        sound = _sound(statements, path)
    source = sound[0]
    value, notes = statements[source], []
    for other, different in statements.items():
        if abs(different - value) > _TOLERANCE * value:
            notes.append(f"TR: {source} says {value:g} s (used), {other} {different:g} s")
    return source, value, notes


def _sound(statements: Mapping[str, float], path: Path) -> list[str]:
    said = ", ".join(f"{source} {value:g} s" for source, value in statements.items())
    largest, smallest = max(statements.values()), min(statements.values())
    if _THOUSAND[0] < largest / smallest < _THOUSAND[1]:
        raise InputError(
            f"{path}: the TR is stated as {said}, seconds and milliseconds are mixed up: "
            "set t_r=..."
        )
    sound = [source for source, value in statements.items() if is_plausible(value)]
    if not sound:
        raise InputError(f"{path}: TR ({said}) {_outside(largest)}: set t_r=... in seconds")
    if sound == ["header"] and statements["header"] == _UNSET:
        raise InputError(
            f"{path}: only the header gives the TR, as exactly 1 s, which is also what programs "
            "write that do not know it: set t_r=... (t_r=1 if it is right)"
        )
    return sound


def sidecar_t_r(path: Path) -> float | None:
    """Return the repetition time in the JSON file beside a scan, None if there is none.

    Raises
    ------
    InputError
        If the JSON file cannot be read.
    """
    sidecar = path.with_name(path.name.split(".", 1)[0] + ".json")
    if not sidecar.is_file():
        return None
    content = read_json(sidecar, "correct the BIDS sidecar")
    with reading(sidecar, "correct the BIDS sidecar"):
        value = content.get("RepetitionTime")
        hertz = content.get("SamplingFrequency")  # of tables of series; "TR" in old XCP-D
        if not value and isinstance(hertz, (int, float)) and hertz > 0:
            return 1 / hertz
        return float(value) if value else None
