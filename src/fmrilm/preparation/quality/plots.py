"""The pictures of ``qc.html``."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np

from fmrilm.cohort.cohort import Cohort
from fmrilm.preparation.quality.measures import LARGE_FD, ScanQuality
from fmrilm.preparation.quality.motion import QCFC

_PIXELS = 120  # most rows and columns of a thumbnail


def thumbnail(values: np.ndarray, low: float, high: float, colours: str) -> str:
    """Return a small picture with 256 colours as a data address."""
    from matplotlib import colormaps
    from PIL import Image

    for axis in (0, 1):  # neighbours are averaged
        count = values.shape[axis]
        step = -(-count // _PIXELS)
        starts = np.arange(0, count, step)
        sizes = np.diff([*starts, count])
        shape = (-1, 1) if axis == 0 else (1, -1)
        values = np.add.reduceat(np.nan_to_num(values), starts, axis=axis) / sizes.reshape(shape)
    levels = np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    picture = Image.fromarray(levels, mode="L").convert("P")
    palette = (colormaps[colours](np.arange(256))[:, :3] * 255).astype(np.uint8)
    picture.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture(content: bytes) -> str:
    """Return an ``img`` element that holds a PNG."""
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    return f'<img class="wide" src="{source}" alt="">'


def figure_of(width: float, height: float, columns: int = 1) -> tuple:
    """Return a figure and its axes (one, or an array)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def to_png(figure) -> bytes:  # type: ignore[no-untyped-def]
    """Return a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def plot_coverage(cohort: Cohort) -> bytes:
    """Return the coverage of every region as PNG."""
    figure, axis = figure_of(9.5, 2.6)
    coverage = cohort.store.extra("coverage")
    usable = np.mean([cohort.store.read(i)[1] for i in range(min(len(cohort), 500))], axis=0)
    if coverage is not None:
        axis.plot(coverage.mean(0), lw=0.8, color="#1f77b4", label="mean share of the region seen")
        axis.plot(coverage.min(0), lw=0.8, color="#c0392b", label="lowest of all samples")
    axis.plot(usable, lw=0.8, color="#555", ls=":", label="share of samples that can use it")
    networks = cohort.atlas.networks
    starts = [i for i in range(len(networks)) if i == 0 or networks[i] != networks[i - 1]]
    if len(starts) < 40 and cohort.atlas.has_networks:
        axis.set_xticks(starts, [networks[i] for i in starts], rotation=60, ha="right", fontsize=7)
    axis.set(ylim=(-0.02, 1.05), xlim=(0, len(networks) - 1), ylabel="share")
    axis.legend(fontsize=7, loc="lower left")
    return to_png(figure)


def plot_quality(scans: Sequence[ScanQuality]) -> bytes:
    """Return histograms of mean FD, DVARS and tSNR over samples as PNG."""
    figure, axes = figure_of(9.5, 2.4, 3)
    shown = (
        ("mean FD (mm)", [scan.mean_fd for scan in scans], LARGE_FD),
        ("mean std DVARS", [scan.mean_dvars for scan in scans], None),
        ("tSNR of the regions", [scan.tsnr for scan in scans], None),
    )
    for axis, (label, values, limit) in zip(axes, shown, strict=True):
        known = [value for value in values if np.isfinite(value)]
        if known:
            axis.hist(known, bins=30, color="#1f77b4")
        if known and limit is not None:
            axis.axvline(limit, color="#c0392b", lw=1)
        axis.set(xlabel=label, title=f"known for {len(known)} of {len(scans)}")
    axes[0].set_ylabel("samples")
    return to_png(figure)


def plot_qc_fc(found: QCFC) -> bytes:
    """Return the edges' correlation with mean FD, and its dependence on distance, as PNG."""
    figure, (left, right) = figure_of(9.5, 2.8, 2)
    left.hist(found.edges, bins=60, color="#1f77b4")
    left.axvline(0, color="#555", lw=1)
    left.set(xlabel="correlation with mean FD", ylabel="edges")
    known = np.isfinite(found.distances)
    if known.any():
        right.hexbin(found.distances[known], found.edges[known], gridsize=50, cmap="Blues",
                     mincnt=1)  # fmt: skip
        right.axhline(0, color="#555", lw=1)
        right.set(xlabel="distance (mm)", ylabel="correlation with mean FD")
    else:
        right.set_axis_off()
        right.text(0.5, 0.5, "no coordinates in the atlas", ha="center")
    return to_png(figure)


def plot_group(cohort: Cohort, group: np.ndarray) -> bytes:
    """Return the mean Fisher z, regions sorted by network, as PNG."""
    figure, axis = figure_of(5.4, 4.6)
    order = np.argsort([*map(_rank(cohort), cohort.atlas.networks)], kind="stable")
    shown = axis.imshow(group[np.ix_(order, order)], cmap="RdBu_r", vmin=-0.8, vmax=0.8)
    axis.set(title="mean Fisher z, regions sorted by network", xticks=[], yticks=[])
    names = np.array(cohort.atlas.networks)[order]
    if cohort.atlas.has_networks:
        middles = [float(np.flatnonzero(names == n).mean()) for n in dict.fromkeys(names)]
        axis.set_yticks(middles, list(dict.fromkeys(names)), fontsize=7)
    figure.colorbar(shown, ax=axis, shrink=0.7)
    return to_png(figure)


def _rank(cohort: Cohort):  # type: ignore[no-untyped-def]
    position = {name: i for i, name in enumerate(cohort.atlas.network_names)}
    return lambda name: position.get(name, len(position))
