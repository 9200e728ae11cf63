"""What is planted in the synthetic cohorts: which phenotype changes which networks, and how much.

A size is Cohen's d of what can be measured: a phenotype with d = 1 on a pair of networks moves the
mean Fisher z of that pair, on scans of the cohort's length and motion, by one standard deviation
between the groups (for a number, such as age: per standard deviation). The true coupling moves by
more, because a scan is a noisy estimate. ``planted_effects.json`` adds the size found in a cohort.
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
    *_plant("sex", 1.0, "+Default:Default +Vis:Default -SomMot:DorsAttn"),
    Effect("sex", "amplitude", ("SomMot",), -0.5),
    *_plant("age", 0.6, "-SalVentAttn:SalVentAttn +SomMot:SalVentAttn +Vis:DorsAttn"),
    Effect("age", "amplitude", ("Vis",), -0.4),
    Effect("age", "spectrum", ("Default",), -0.5),
    *_plant("fluidintel", 0.4, "+Cont:Cont +Vis:Cont -SomMot:Default"),
    *_plant("flanker", 0.4, "+DorsAttn:DorsAttn +SalVentAttn:Cont -Vis:Limbic"),
    *_plant("AD", 1.0, "-Limbic:Limbic -Subcortex:Default +SalVentAttn:Default"),
    Effect("AD", "amplitude", ("Default",), -0.6),
    *_plant("apoe4_enc", 0.8, "-Subcortex:Limbic +SomMot:Limbic"),
    *_plant("av45_enc", 0.8, "-SalVentAttn:Limbic +Vis:Cont"),
    *_plant("ASD", 1.0, "+Subcortex:SomMot -SalVentAttn:Default +Vis:Vis"),
    *_plant("ADHD", 1.0, "+DorsAttn:Default -Subcortex:Cont -SalVentAttn:SalVentAttn"),
    Effect("ADHD", "spectrum", ("SalVentAttn",), -0.5),
)


def planted_sizes(scores: dict[str, float], kind: str) -> np.ndarray:
    """Return by how many SDs the phenotypes move the measures of one person.

    Parameters
    ----------
    scores : dict of str to float
        Phenotype -> value: -0.5 or 0.5 for a group, a z value for a number.
    kind : str
        ``connectivity``, ``amplitude`` or ``spectrum``.

    Returns
    -------
    sizes : ndarray, shape (8, 8), symmetric, for connectivity; else (8,)
        In the order of :data:`NETWORKS`.
    """
    count = len(NETWORKS)
    sizes = np.zeros((count, count) if kind == "connectivity" else count)
    for effect in EFFECTS:
        if effect.kind != kind or effect.phenotype not in scores:
            continue
        where = tuple(NETWORKS.index(name) for name in effect.networks)
        size = effect.d * scores[effect.phenotype]
        sizes[where] += size
        if len(set(where)) == 2:
            sizes[where[::-1]] += size
    return sizes
