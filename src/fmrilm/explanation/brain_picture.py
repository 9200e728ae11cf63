"""A picture of one value per region: three views of the regions' centroids, and the networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from fmrilm.atlases.atlas import Atlas

VIEWS = (("left to right", 1, 2), ("from above", 0, 1), ("from behind", 0, 2))


def draw_map(
    path: Path,
    atlas: Atlas,
    values: np.ndarray,
    networks: pd.DataFrame,
    title: str,
    pairs: pd.DataFrame | None = None,
) -> None:
    """Write a PNG of region values at their centroids (where known) and of the networks' means.

    Parameters
    ----------
    path : path
    atlas : Atlas
    values : ndarray, shape (R,)
    networks : DataFrame
        With the columns ``network`` and ``mean``.
    title : str
    pairs : DataFrame, optional
        With the columns ``first``, ``second`` and ``share``: one more panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = np.isfinite(atlas.centroids).all(axis=1)
    views = VIEWS if known.any() else ()
    extra = pairs is not None and len(pairs) > 0
    width = 3.1 * len(views) + 3.4 + 3.9 * extra
    figure = Figure(figsize=(width, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(views) + 1 + extra, squeeze=False)[0]
    limit = float(np.quantile(np.abs(values), 0.99)) or 1.0
    order = np.argsort(np.abs(values))
    order = order[known[order]]
    dots = None
    for axis, (name, x, y) in zip(axes, views, strict=False):
        dots = axis.scatter(
            atlas.centroids[order, x],
            atlas.centroids[order, y],
            s=8 + 50 * np.clip(np.abs(values[order]) / limit, 0, 1),
            c=values[order],
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            edgecolors="#00000030",
            linewidths=0.4,
        )
        axis.set_aspect("equal")
        axis.axis("off")
        axis.set_title(name, fontsize=9, color="#5b6068")
    if dots is not None:
        figure.colorbar(dots, ax=list(axes[: len(views)]), shrink=0.6, pad=0.01)
    if pairs is not None and extra:
        draw_pairs(axes[-1], pairs)
    bars = axes[len(views)]
    shown = networks.iloc[::-1]
    colors = ["#b2182b" if value > 0 else "#2166ac" for value in shown["mean"]]
    bars.barh(shown["network"], shown["mean"], color=colors, height=0.6)
    bars.axvline(0, color="#1b1d21", linewidth=0.8)
    bars.spines[["top", "right", "left"]].set_visible(False)
    bars.tick_params(labelsize=8, length=0)
    bars.set_title("mean per region", fontsize=9, color="#5b6068")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.savefig(path, dpi=150)


def draw_pairs(axis: Any, pairs: pd.DataFrame) -> None:
    """Draw the share of every pair of networks as a matrix."""
    names = sorted({*pairs["first"], *pairs["second"]})
    place = {name: index for index, name in enumerate(names)}
    matrix = np.full((len(names), len(names)), np.nan)
    for first, second, share in pairs[["first", "second", "share"]].itertuples(index=False):
        a, b = sorted((place[first], place[second]))
        matrix[b, a] = 100 * share
    limit = float(np.nanmax(np.abs(matrix))) or 1.0
    image = axis.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title("connections, % of all", fontsize=9, color="#5b6068")
    axis.figure.colorbar(image, ax=axis, shrink=0.6, pad=0.02)
