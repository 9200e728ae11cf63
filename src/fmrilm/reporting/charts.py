"""The charts of the report: learning curves, ROC, code usage, series, connectivity."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from fmrilm.reporting.svg import Frame, Line, extent, number, ticks

DIVERGING = "RdBu_r"


def loss_chart(name: str, curves: Mapping[str, Sequence[tuple[float, float]]], best: int) -> str:
    """Return one learning curve, train and val over epochs.

    Parameters
    ----------
    name : str
        Of the loss.
    curves : mapping
        Split -> (epoch, value) pairs.
    best : int
        Epoch whose weights were exported, marked on the val curve; 0: none.
    """
    points = [point for curve in curves.values() for point in curve]
    epochs = [epoch for epoch, _ in points]
    frame = Frame(
        (232, 140),
        (min(epochs), max(max(epochs), min(epochs) + 1)),
        extent([value for _, value in points]),
        (42, 8, 10, 22),
    )
    x_ticks = [t for t in ticks(*frame.x_range, 4) if float(t).is_integer()]
    frame.axes(x_ticks, ticks(*frame.y_range, 3))
    for split, style in (("train", "faint"), ("val", "model")):
        curve = curves.get(split, [])
        if not curve:
            continue
        frame.line(Line([e for e, _ in curve], [v for _, v in curve], style, split))
        for epoch, value in curve if split == "val" else []:
            if epoch == best:
                frame.dot(frame.px(epoch), frame.py(value), "ring", 4)
    return frame.render(f"{name} over epochs")


def roc_points(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates, from (0, 0) to (1, 1), ties taken together."""
    weights = np.ones(len(scores)) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(weights[order] * positive[order])[ends]
    alarms = np.cumsum(weights[order] * ~positive[order])[ends]
    with np.errstate(invalid="ignore"):
        return (
            np.concatenate([[0.0], alarms / alarms[-1]]),
            np.concatenate([[0.0], hits / hits[-1]]),
        )


def roc_band(
    positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a grid of false positive rates and the 95% range of the true ones over weightings."""
    grid = np.linspace(0, 1, 101)
    rates = []
    for row in weights:
        alarms, hits = roc_points(positive, scores, row)
        if np.isfinite(alarms).all() and np.isfinite(hits).all():
            rates.append(np.interp(grid, alarms, hits))
    low, high = np.quantile(rates, [0.025, 0.975], axis=0)
    return grid, low, high


def roc_chart(lines: Sequence[Line], band: tuple[np.ndarray, np.ndarray, np.ndarray] | None) -> str:
    """Return the ROC of several predictors, the band belonging to the first."""
    frame = Frame((300, 300), (0, 1), (0, 1), (44, 8, 8, 38))
    marks = [0, 0.25, 0.5, 0.75, 1]
    frame.axes(marks, marks, "false positive rate", "true positive rate")
    frame.line(Line([0, 1], [0, 1], "dash"))
    if band is not None:
        frame.band(*band)
    for line in reversed(lines):
        frame.line(line)
    return frame.render("ROC curves")


def value_chart(labels: np.ndarray, values: np.ndarray, half: float | None = None) -> str:
    """Return predicted values over labels; the band of half width ``half`` holds most labels."""
    ends = extent(np.concatenate([labels, values]))
    frame = Frame((300, 300), ends, ends, (44, 8, 8, 38))
    frame.axes(ticks(*ends, 4), ticks(*ends, 4), "label", "predicted value")
    line = np.array(ends)
    if half is not None:
        frame.band(line, *(np.clip(line + shift, *ends) for shift in (-half, half)))
    frame.line(Line(ends, ends, "dash"))
    for x, y in zip(labels, values, strict=True):
        frame.dot(frame.px(x), frame.py(y), "model", 2.5)
    return frame.render("predicted values over labels")


def reliability_chart(
    before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]], chance: float
) -> str:
    """Return accuracy over confidence, before and after scaling; dots as large as their bins.

    Parameters
    ----------
    before, after : sequence of mapping
        ``confidence``, ``accuracy`` and ``count`` per bin.
    chance : float
        Lowest possible confidence, one over the number of answers.
    """
    low = np.floor(10 * min([chance, *(row["accuracy"] for row in (*before, *after))])) / 10
    frame = Frame((300, 300), (float(low), 1), (float(low), 1), (44, 8, 8, 38))
    frame.axes(ticks(low, 1, 4), ticks(low, 1, 4), "confidence", "share of right answers")
    frame.line(Line([low, 1], [low, 1], "dash"))
    for rows, style in ((before, "other"), (after, "model")):
        total = sum(row["count"] for row in rows)
        frame.line(Line([r["confidence"] for r in rows], [r["accuracy"] for r in rows], style))
        for row in rows:
            radius = 2 + 7 * np.sqrt(row["count"] / total)
            frame.dot(frame.px(row["confidence"]), frame.py(row["accuracy"]), style, radius)
    return frame.render("reliability of the stated confidence")


def usage_chart(counts: np.ndarray) -> str:
    """Return how often each code is used, most frequent first, on a logarithmic scale."""
    used = np.sort(counts[counts > 0])[::-1]
    share = used / used.sum()
    low, high = np.log10(share.min()), np.log10(share.max())
    frame = Frame((360, 220), (0, len(counts)), extent([low, high]), (52, 10, 14, 38))
    marks = [float(t) for t in range(int(np.floor(low)), int(np.ceil(high)) + 1)]
    marks = [t for t in marks if frame.y_range[0] <= t <= frame.y_range[1]]
    frame.axes(ticks(0, len(counts), 4), [], "codes, most frequent first", "share of tokens")
    for mark in marks:
        y = frame.py(mark)
        frame.parts.append(
            f'<line class="grid" x1="52" x2="346" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="46" y="{y + 3.5:.1f}" text-anchor="end">{_percent(mark)}</text>'
        )
    uniform = np.log10(1 / len(counts))
    if frame.y_range[0] < uniform < frame.y_range[1]:
        frame.line(Line([0, len(counts)], [uniform, uniform], "dash", "all codes used equally"))
    frame.line(Line(np.arange(len(used)) + 0.5, np.log10(share), "model"))
    edge = frame.px(len(used))
    frame.parts.append(
        f'<line class="axis" x1="{edge:.1f}" x2="{edge:.1f}" y1="{182 - 6}" y2="{182}"/>'
    )
    return frame.render(f"{len(used)} of {len(counts)} codes are used")


def _percent(power: float) -> str:
    return f"{number(100 * 10**power)}%"


def series_chart(time: np.ndarray, original: np.ndarray, rebuilt: np.ndarray) -> str:
    """Return one region's series and its reconstruction over seconds."""
    both = np.concatenate([original, rebuilt])
    frame = Frame((318, 120), (float(time[0]), float(time[-1])), extent(both), (32, 6, 8, 20))
    frame.axes(ticks(*frame.x_range, 4), ticks(*frame.y_range, 3))
    frame.line(Line(time, original, "faint", "original"))
    frame.line(Line(time, rebuilt, "model", "reconstructed"))
    return frame.render("original and reconstructed series")


def matrix_png(matrix: np.ndarray, limit: float) -> str:
    """Return a matrix as a base64 PNG, blue below and red above zero, grey where it is nan."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    colors = colormaps[DIVERGING]((np.clip(matrix / limit, -1, 1) + 1) / 2)
    colors[np.isnan(matrix)] = (0.6, 0.6, 0.6, 1)
    buffer = io.BytesIO()
    imsave(buffer, (colors[:, :, :3] * 255).astype(np.uint8), format="png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def connectivity_chart(matrix: np.ndarray, groups: Sequence[tuple[str, int]], limit: float) -> str:
    """Return a region x region matrix with the networks written at its side.

    Parameters
    ----------
    matrix : ndarray, shape (R, R)
        In the order of the groups.
    groups : sequence of (name, size)
    limit : float
        Value of the darkest colours.
    """
    size, top = 380.0, 6.0
    left = 14 + 6.2 * max((len(name) for name, _ in groups), default=0)
    scale = size / len(matrix)
    parts = [
        f'<image x="{left}" y="{top}" width="{size}" height="{size}" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,'
        f'{matrix_png(matrix, limit)}"/>'
    ]
    start = 0
    for name, count in groups:
        middle, end = (start + count / 2) * scale, (start + count) * scale
        if name:
            parts.append(
                f'<text class="tick" x="{left - 8}" y="{top + middle + 3.5:.1f}" '
                f'text-anchor="end">{escape(name)}</text>'
            )
        if end < size - 0.5:
            parts.append(
                f'<path class="divide" d="M{left} {top + end:.1f}h{size}M{left + end:.1f} '
                f'{top}v{size}"/>'
            )
        start += count
    bar, x = 12, left + size + 16
    parts.append(
        f'<image x="{x}" y="{top}" width="{bar}" height="{size}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{matrix_png(np.linspace(1, -1, 101)[:, None], 1.0)}"/>'
    )
    for value in (-limit, 0.0, limit):
        y = top + (1 - (value / limit + 1) / 2) * size
        offset = {limit: 9.0, -limit: -1.0}.get(value, 3.5)
        parts.append(
            f'<text class="tick" x="{x + bar + 5}" y="{y + offset:.1f}">{number(value)}</text>'
        )
    width, height = x + bar + 40, size + 2 * top
    return (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="group connectivity">{"".join(parts)}</svg>'
    )
