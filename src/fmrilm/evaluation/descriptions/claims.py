"""Is a text true of its scan? The verdicts on its claims, as numbers that add up over texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fmrilm.descriptors.text.verify import (
    CONTRADICTED,
    SUPPORTED,
    UNVERIFIABLE,
    Verdict,
    Verification,
    verify,
)

Z_TOLERANCE = 0.5  # a stated z this near to the measured one is called near
DEVIATIONS = ("higher", "lower", "strongest", "weakest")
COLUMNS = (
    "claims",
    "supported",
    "contradicted",
    "unverifiable",
    "directions",  # claims with a direction that can be checked
    "directions_right",
    "deviations",  # those among them that do not say "typical"
    "deviations_right",
    "z_n",  # claims with a z, and sums over them: stated x, measured y
    "z_near",
    "z_x",
    "z_y",
    "z_xx",
    "z_yy",
    "z_xy",
)


def claim_statistics(
    texts: Sequence[str], measures: Sequence[Mapping[str, Any]], place_names: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Return the counts of :data:`COLUMNS` for every text against the measures of its scan.

    Parameters
    ----------
    texts : sequence of n str
    measures : sequence of n mappings
        Measures and their z.
    place_names : mapping
        Names of regions, see :func:`fmrilm.descriptors.text.verify`.
    """
    rows = [
        _count(verify(text, row, place_names), row)
        for text, row in zip(texts, measures, strict=True)
    ]
    return {name: np.array([row[name] for row in rows], dtype=float) for name in COLUMNS}


def _count(found: Verification, measures: Mapping[str, Any]) -> dict[str, float]:
    told = [v for v in found.verdicts if v.claim.direction and v.verdict != UNVERIFIABLE]
    deviations = [v for v in told if v.claim.direction in DEVIATIONS]
    pairs = np.array(
        [
            (float(v.claim.z), float(measures[f"{v.claim.measure}_z"]))
            for v in found.verdicts
            if v.claim.z and v.verdict != UNVERIFIABLE
        ]
    ).reshape(-1, 2)
    x, y = pairs.T
    return {
        "claims": len(found.verdicts),
        "supported": found.count(SUPPORTED),
        "contradicted": found.count(CONTRADICTED),
        "unverifiable": found.count(UNVERIFIABLE),
        "directions": len(told),
        "directions_right": sum(map(_direction_holds, told)),
        "deviations": len(deviations),
        "deviations_right": sum(map(_direction_holds, deviations)),
        "z_n": len(pairs),
        "z_near": int((np.abs(x - y) <= Z_TOLERANCE).sum()),
        "z_x": x.sum(),
        "z_y": y.sum(),
        "z_xx": x @ x,
        "z_yy": y @ y,
        "z_xy": x @ y,
    }


def _direction_holds(verdict: Verdict) -> bool:
    return not {"direction", "rank"} & set(verdict.wrong)
