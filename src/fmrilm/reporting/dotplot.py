"""Scores with their intervals, one row per name, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from fmrilm.reporting.svg import Frame, Line, number, ticks
from fmrilm.stats.intervals import Estimate
from fmrilm.stats.kinds import KINDS, Kind

WIDTH, LABELS = 440, 178
STEP = 13  # pixels from one mark of a row to the next
BELOW = 0.1  # how far below chance the axis begins, or further where a score lies lower


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


def dot_plot(rows: Sequence[Row], about: str, kind: Kind = KINDS["classes"]) -> str:
    """Return rows of dots with interval bars over the score's axis; the dashed line is chance.

    Parameters
    ----------
    rows : sequence of Row
    about : str
        Read out to those who cannot see the chart.
    kind : Kind
        Of the answers: which score it is, and its chance.
    """
    ends = [
        value
        for row in rows
        for mark in row.marks
        for value in (mark.estimate.value, mark.estimate.low, *mark.points)
    ]
    low = axis_start(ends, kind)
    heights = [8 + STEP * max(1, len(row.marks)) for row in rows]
    base = sum(heights) + 6
    frame = Frame((WIDTH, base + 36), (low, 1.0), (0.0, 1.0), (LABELS, 4, 10, 36))
    for tick in ticks(low, 1.0, 5):
        x = frame.px(tick)
        frame.parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{base}"/>'
            f'<text class="tick" x="{x:.1f}" y="{base + 15}" text-anchor="middle">'
            f"{number(tick)}</text>"
        )
    frame.parts.append(
        f'<text class="label" x="{frame.px((low + 1) / 2):.1f}" y="{base + 31}" '
        f'text-anchor="middle">{escape(kind.primary_title)}</text>'
    )
    frame.line(Line([kind.chance, kind.chance], [0, 1], "dash"))
    top = 4.0
    for row, height in zip(rows, heights, strict=True):
        middle = top + height / 2
        frame.parts.append(
            f'<text class="name" x="0" y="{middle + 4:.1f}">{escape(row.name)}</text>'
        )
        y = middle - STEP * (len(row.marks) - 1) / 2
        for mark in row.marks:
            _draw(frame, mark, y, kind.chance)
            y += STEP
        top += height
    return frame.render(about)


def axis_start(values: Sequence[float], kind: Kind) -> float:
    """Return where an axis up to 1 begins that shows chance and all finite values.

    Never below the lowest score there is: the interval of a mean may reach beyond it.
    """
    lowest = min((value for value in values if math.isfinite(value)), default=kind.chance)
    start = min(round(kind.chance - BELOW, 6), float(np.floor(10 * lowest) / 10))
    return max(start, 2 * kind.chance - 1)


def _draw(frame: Frame, mark: Mark, y: float, chance: float) -> None:
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
            f'<text class="tick" x="{frame.px(chance) + 6:.1f}" y="{y + 3:.1f}">{reason}</text>'
        )
