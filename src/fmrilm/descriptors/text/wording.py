"""The words: how strong a deviation is, what the networks are called, how a number is written."""

from __future__ import annotations

from collections.abc import Sequence

TYPICAL_UP_TO = 1.0  # |z|
SOMEWHAT_UP_TO = 2.0

# Signed: the weakest is the lowest value, and where that is below zero it is called so.
EXTREMES = {
    "strongest": ("strongest", "highest", "most pronounced"),
    "weakest": ("weakest", "lowest", "most negative"),
}

# Abbreviations of the usual atlases -> (name in a text, other names a reader may use).
NETWORK_NAMES: dict[str, tuple[str, ...]] = {
    "Vis": ("visual",),
    "SomMot": ("somatomotor", "sensorimotor", "motor"),
    "DorsAttn": ("dorsal attention",),
    "SalVentAttn": ("salience", "ventral attention", "salience/ventral attention"),
    "Limbic": ("limbic",),
    "Cont": ("frontoparietal", "frontoparietal control", "executive control"),
    "Default": ("default mode", "default"),
    "Subcortex": ("subcortical", "subcortex"),
    "TempPar": ("temporoparietal", "temporal parietal"),
    "Cerebellum": ("cerebellar", "cerebellum"),
    # MIST (Urchs et al. 2019)
    "CER": ("cerebellar", "cerebellum"),
    "DMnet": ("default mode", "default"),
    "FPnet_VISDN": ("frontoparietal visual",),
    "LIMnet": ("limbic",),
    "MOTnet": ("somatomotor", "sensorimotor", "motor"),
    "VATTnet_SALnet_BG_THAL": ("salience subcortical",),
    "VISnet": ("visual",),
}


def category(z: float) -> str:
    """Return ``typical`` for |z| <= 1, else ``somewhat`` or (above 2) ``markedly`` and where to.

    The z is first rounded as it is printed, so that a text never disagrees with its own number.

    Examples
    --------
    >>> category(-2.4), category(1.0)
    ('markedly lower', 'typical')
    """
    size = abs(round(float(z), 2))
    if size <= TYPICAL_UP_TO:
        return "typical"
    strength = "somewhat" if size <= SOMEWHAT_UP_TO else "markedly"
    return f"{strength} {'higher' if z > 0 else 'lower'}"


def number(value: float, digits: int = 2) -> str:
    """Return a number as it is printed; minus zero is zero.

    Examples
    --------
    >>> number(-0.001), number(1.234)
    ('0.00', '1.23')
    """
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def network_name(label: str) -> str:
    """Return how a network is called in a text, e.g. ``default mode`` for ``Default``."""
    if label in NETWORK_NAMES:
        return NETWORK_NAMES[label][0]
    return label.replace("_", " ").strip()


def network_aliases(label: str) -> tuple[str, ...]:
    """Return every name by which a text may call a network, the printed one first."""
    known = NETWORK_NAMES.get(label, (network_name(label),))
    return known if label in known else (*known, label)


def join_words(parts: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def capitalise(text: str) -> str:
    """Return the text with a capital first letter, the rest untouched."""
    return text[:1].upper() + text[1:]
