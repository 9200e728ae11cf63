"""What the page shows of a scan: coverage, connectivity of its networks, drift, carpet plot."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from fmrilm.atlases.atlas import Atlas
from fmrilm.descriptors.connectivity import block_means, correlation, fisher_z
from fmrilm.descriptors.measures.networks import membership, network_order
from fmrilm.descriptors.measures.scans import usable_regions
from fmrilm.processing.drift import GROUPS, Drift

CLIP = 2.5  # standard deviations of the darkest and brightest grey
MOST_COLUMNS = 1200  # of the carpet plot
NAMED = 12  # absent regions that are named


def view_of(series: np.ndarray, atlas: Atlas) -> dict[str, Any]:
    """Coverage and connectivity by network of a scan.

    Parameters
    ----------
    series : ndarray, shape (R, T)
        Not scaled; absent regions are NaN.
    atlas : Atlas

    Returns
    -------
    dict
        ``shape``; ``coverage``: per network the regions there are and those usable; ``absent``:
        names; ``networks`` and ``connectivity``: mean Fisher z within and between networks, None
        where there is no pair.
    """
    usable = usable_regions(series)
    names = network_order(atlas.networks)
    coverage = []
    for name in names or [""]:
        rows = atlas.members(name) if name else np.arange(len(atlas))
        title, count = name or "all regions", int(usable[rows].sum())
        coverage.append({"network": title, "regions": len(rows), "usable": count})
    return {
        "shape": list(series.shape),
        "coverage": coverage,
        "absent": [atlas.names[row] for row in np.flatnonzero(~usable)[:NAMED]],
        "n_absent": int((~usable).sum()),
        "networks": names,
        "connectivity": _connectivity(series, usable, atlas) if names else [],
    }


def _connectivity(series: np.ndarray, usable: np.ndarray, atlas: Atlas) -> list[list[float | None]]:
    z = fisher_z(correlation(series[usable].astype(np.float64)))
    means = block_means(z, membership(atlas.networks, usable))
    return [[round(float(v), 4) if math.isfinite(v) else None for v in row] for row in means]


def drift_view(drift: Drift | None) -> dict[str, Any] | None:
    """How unlike the training scans a scan is, respect by respect."""
    if drift is None:
        return None
    respects = [
        {"name": GROUPS[name], "ratio": round(ratio, 4) if math.isfinite(ratio) else None}
        for name, ratio in drift.ratios.items()
    ]
    return {"is_unlike": drift.is_unlike, "text": drift.text, "respects": respects}


def carpet(series: np.ndarray, atlas: Atlas) -> bytes:
    """A PNG of all series: a row per region, sorted by network, a column per time point.

    Each region is standardised; absent ones are transparent.
    """
    from matplotlib.image import imsave

    usable = usable_regions(series)
    rank = {name: place for place, name in enumerate(network_order(atlas.networks))}
    order = sorted(
        range(len(atlas)), key=lambda row: (rank.get(atlas.networks[row], len(rank)), row)
    )
    rows = series[order][:, :: max(1, math.ceil(series.shape[1] / MOST_COLUMNS))]
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
    grey = np.nan_to_num((np.clip(z, -CLIP, CLIP) / CLIP + 1) / 2)
    picture = np.repeat(grey[:, :, None], 4, axis=2)
    picture[:, :, 3] = usable[order][:, None]
    buffer = io.BytesIO()
    imsave(buffer, (picture * 255).astype(np.uint8), format="png")
    return buffer.getvalue()


def difference(first: dict[str, Any], second: dict[str, Any]) -> list[list[float | None]]:
    """Connectivity of the first scan minus that of the second; None where one has none.

    Parameters
    ----------
    first, second : dict
        From :func:`view_of`.
    """
    if first["networks"] != second["networks"]:
        return []
    return [
        [
            None if a is None or b is None else round(a - b, 4)
            for a, b in zip(row, other, strict=True)
        ]
        for row, other in zip(first["connectivity"], second["connectivity"], strict=True)
    ]
