"""A picture of one value per region: three views of the regions' centroids, and the networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from fmrilm.data.atlas import Atlas

VIEWS = (("left to right", 1, 2), ("from above", 0, 1), ("from behind", 0, 2))


def draw_map(
    path: Path, atlas: Atlas, values: np.ndarray, networks: pd.DataFrame, title: str
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
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = np.isfinite(atlas.centroids).all(axis=1)
    views = VIEWS if known.any() else ()
    figure = Figure(figsize=(3.1 * len(views) + 3.4, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(views) + 1, squeeze=False)[0]
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
    bars = axes[-1]
    shown = networks.iloc[::-1]
    colors = ["#b2182b" if value > 0 else "#2166ac" for value in shown["mean"]]
    bars.barh(shown["network"], shown["mean"], color=colors, height=0.6)
    bars.axvline(0, color="#1b1d21", linewidth=0.8)
    bars.spines[["top", "right", "left"]].set_visible(False)
    bars.tick_params(labelsize=8, length=0)
    bars.set_title("mean per region", fontsize=9, color="#5b6068")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.savefig(path, dpi=150)
