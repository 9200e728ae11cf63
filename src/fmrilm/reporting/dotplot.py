"""Scores with their intervals, one row per name, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from fmrilm.evaluation.intervals import Estimate
from fmrilm.reporting.svg import Frame, Line, ticks

WIDTH, LABELS = 440, 178
STEP = 13  # pixels from one mark of a row to the next


@dataclass(frozen=True)
class Mark:
    """One score of a row: its style class, interval, and the single values behind it."""

    style: str
    estimate: Estimate
    points: Sequence[float] = ()


@dataclass(frozen=True)
class Row:
    """One name with its marks."""

    name: str
    marks: Sequence[Mark]


def dot_plot(rows: Sequence[Row], about: str, chance: float = 0.5) -> str:
    """Return rows of dots with interval bars over an AUC axis; the dashed line is chance.

    Parameters
    ----------
    rows : sequence of Row
    about : str
        Read out to those who cannot see the chart.
    chance : float
    """
    ends = [
        value
        for row in rows
        for mark in row.marks
        for value in (mark.estimate.value, mark.estimate.low, *mark.points)
        if math.isfinite(value)
    ]
    low = min(0.4, float(np.floor(10 * min(ends, default=0.4)) / 10))
    heights = [8 + STEP * max(1, len(row.marks)) for row in rows]
    base = sum(heights) + 6
    frame = Frame((WIDTH, base + 36), (low, 1.0), (0.0, 1.0), (LABELS, 4, 10, 36))
    for tick in ticks(low, 1.0, 5):
        x = frame.px(tick)
        frame.parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{base}"/>'
            f'<text class="tick" x="{x:.1f}" y="{base + 15}" text-anchor="middle">{tick:.1f}</text>'
        )
    frame.parts.append(
        f'<text class="label" x="{frame.px((low + 1) / 2):.1f}" y="{base + 31}" '
        'text-anchor="middle">AUC</text>'
    )
    frame.line(Line([chance, chance], [0, 1], "dash"))
    top = 4.0
    for row, height in zip(rows, heights, strict=True):
        middle = top + height / 2
        frame.parts.append(
            f'<text class="name" x="0" y="{middle + 4:.1f}">{escape(row.name)}</text>'
        )
        y = middle - STEP * (len(row.marks) - 1) / 2
        for mark in row.marks:
            _draw(frame, mark, y)
            y += STEP
        top += height
    return frame.render(about)


def _draw(frame: Frame, mark: Mark, y: float) -> None:
    score = mark.estimate
    if math.isfinite(score.low):
        a, b = (frame.px(min(max(v, frame.x_range[0]), 1.0)) for v in (score.low, score.high))
        frame.parts.append(
            f'<line class="line {mark.style}" x1="{a:.1f}" x2="{b:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    for value in mark.points:
        if math.isfinite(value):
            frame.dot(frame.px(value), y, f"{mark.style} single", 2)
    if math.isfinite(score.value):
        frame.dot(frame.px(score.value), y, mark.style, 4)
    else:
        reason = escape(score.reason or "not defined")
        frame.parts.append(
            f'<text class="tick" x="{frame.px(0.5) + 6:.1f}" y="{y + 3:.1f}">{reason}</text>'
        )
