"""What is planted in the synthetic cohorts: which phenotype changes which networks, and how much.

A size is Cohen's d in the units of the true difference between people: a phenotype with d = 0.8 on
a pair of networks moves that pair's true coupling by 0.8 standard deviations between the groups
(for a number, such as age: per standard deviation). What is measured on a scan is smaller, because
160 volumes give a noisy estimate; ``planted_effects.json`` holds both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NETWORKS = (
    "Subcortex", "Vis", "SomMot", "DorsAttn", "SalVentAttn", "Limbic", "Cont", "Default"
)  # fmt: skip


@dataclass(frozen=True)
class Effect:
    """One planted effect of one phenotype.

    Parameters
    ----------
    phenotype : str
        Column of ``participants.tsv``.
    kind : str
        ``connectivity`` (coupling of two networks, or inside one), ``amplitude`` (size of the BOLD
        fluctuation) or ``spectrum`` (steepness of its power spectrum).
    networks : tuple of str
        Two networks (the same twice: inside it) for connectivity, else one.
    d : float
        Signed size; positive: higher in the positive group or with a higher value.
    """

    phenotype: str
    kind: str
    networks: tuple[str, ...]
    d: float


def _plant(phenotype: str, d: float, pairs: str) -> list[Effect]:
    """Return effects of size ``d`` from words such as ``+Vis:Default -Cont:Cont``."""
    effects = []
    for word in pairs.split():
        networks = tuple(word[1:].split(":"))
        effects.append(Effect(phenotype, "connectivity", networks, d if word[0] == "+" else -d))
    return effects


EFFECTS: tuple[Effect, ...] = (
    # F against M; the same in every cohort, so that a model can be carried from one to another
    *_plant(
        "sex",
        1.0,
        "+Default:Default -SomMot:SomMot +Vis:Default -Vis:SomMot +Limbic:Default "
        "-SomMot:DorsAttn +Limbic:Cont -Vis:SalVentAttn +Subcortex:Subcortex -DorsAttn:Cont",
    ),
    Effect("sex", "amplitude", ("SomMot",), -0.5),
    *_plant(
        "age",
        0.6,
        "-SalVentAttn:SalVentAttn -DorsAttn:DorsAttn -Cont:Cont +SomMot:SalVentAttn "
        "+Vis:DorsAttn -Subcortex:SomMot",
    ),
    Effect("age", "amplitude", ("Vis",), -0.4),
    Effect("age", "spectrum", ("Default",), -0.5),
    *_plant("fluidintel", 0.6, "+Cont:Cont +Vis:Cont +DorsAttn:SalVentAttn -SomMot:Default"),
    *_plant("flanker", 0.6, "+DorsAttn:DorsAttn +SalVentAttn:Cont +Subcortex:Cont -Vis:Limbic"),
    *_plant(
        "AD",
        1.0,
        "-Limbic:Limbic -Subcortex:Default -Subcortex:Limbic +SalVentAttn:Default "
        "-DorsAttn:Limbic -Cont:Default",
    ),
    Effect("AD", "amplitude", ("Default",), -0.6),
    *_plant("apoe4_enc", 0.8, "-Subcortex:Limbic -DorsAttn:Default +SomMot:Limbic -Vis:Vis"),
    *_plant("av45_enc", 0.8, "-Subcortex:Default -SalVentAttn:Limbic +Vis:Cont -Cont:Default"),
    *_plant(
        "ASD",
        1.0,
        "+Subcortex:SomMot +Subcortex:Vis -SalVentAttn:Default -Limbic:SalVentAttn "
        "-SomMot:Limbic +Vis:Vis",
    ),
    *_plant(
        "ADHD",
        1.0,
        "+DorsAttn:Default +Cont:Default -Subcortex:Cont -SalVentAttn:Cont "
        "-SalVentAttn:SalVentAttn -Subcortex:DorsAttn",
    ),
    Effect("ADHD", "spectrum", ("SalVentAttn",), -0.5),
)


def planted_shifts(scores: dict[str, float], kind: str) -> np.ndarray:
    """Return by how many standard deviations the phenotypes shift the networks of one person.

    Parameters
    ----------
    scores : dict of str to float
        Phenotype -> value: -0.5 or 0.5 for a group, a z value for a number.
    kind : str
        ``connectivity``, ``amplitude`` or ``spectrum``.

    Returns
    -------
    shifts : ndarray, shape (8, 8), symmetric, for connectivity; else (8,)
        In the order of :data:`NETWORKS`.
    """
    count = len(NETWORKS)
    shifts = np.zeros((count, count) if kind == "connectivity" else count)
    for effect in EFFECTS:
        if effect.kind != kind or effect.phenotype not in scores:
            continue
        where = tuple(NETWORKS.index(name) for name in effect.networks)
        size = effect.d * scores[effect.phenotype]
        shifts[where] += size
        if len(set(where)) == 2:
            shifts[where[::-1]] += size
    return shifts
