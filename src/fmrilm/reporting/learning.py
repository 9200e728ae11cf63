"""Learning curves: the score on the same held-out people over the number of training people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from fmrilm.reporting.dotplot import axis_start
from fmrilm.reporting.svg import Frame, Line, ticks
from fmrilm.stats.intervals import Estimate
from fmrilm.stats.kinds import KINDS, Kind

SIZE, MARGINS = (470, 290), (44, 10, 118, 38)
LINE_HEIGHT = 13


@dataclass(frozen=True)
class Curve:
    """The scores of one feature; an interval is the range over draws of the training people."""

    people: Sequence[int]
    scores: Sequence[Estimate]
    style: str
    name: str


def learning_chart(
    curves: Sequence[Curve],
    ends: Sequence[tuple[int, float, str]] = (),
    kind: Kind = KINDS["classes"],
) -> str:
    """Return the score over the number of training people, on a logarithmic axis.

    Parameters
    ----------
    curves : sequence of Curve
    ends : sequence of (people, score, name)
        What else was trained on all people; a ring each.
    kind : Kind
        Of the answers: which score it is, and its chance.
    """
    people = sorted({count for curve in curves for count in curve.people})
    values = [s.low if math.isfinite(s.low) else s.value for c in curves for s in c.scores]
    low = axis_start([*values, *(value for _, value, _ in ends)], kind)
    edges = np.log(people[0]) - 0.05, np.log(people[-1]) + 0.05
    frame = Frame(SIZE, edges, (low, 1), MARGINS)
    title = f"{kind.primary_title} on the same held-out people"
    frame.axes([], ticks(low, 1, 5), "people in training", title)
    base = SIZE[1] - MARGINS[3]
    for count in people:
        x = frame.px(np.log(count))
        frame.parts.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>'
            f'<text class="tick" x="{x:.1f}" y="{base + 15}" text-anchor="middle">{count}</text>'
        )
    frame.line(Line(edges, [kind.chance] * 2, "dash"))
    for curve in curves:
        _draw(frame, curve)
    for count, value, name in ends:
        if math.isfinite(value):
            x, y = frame.px(np.log(count)), frame.py(value)
            frame.parts.append(f"<g><title>{escape(name)}</title>")
            frame.dot(x, y, "ring", 5).parts.append("</g>")
    _name_ends(frame, curves, ends)
    return frame.render("learning curves")


def _draw(frame: Frame, curve: Curve) -> None:
    x = np.log(np.asarray(curve.people, dtype=float))
    y = [score.value for score in curve.scores]
    frame.line(Line(x, y, curve.style, curve.name))
    for place, score in zip(x, curve.scores, strict=True):
        if not math.isfinite(score.value):
            continue
        across = frame.px(place)
        if math.isfinite(score.low):
            frame.parts.append(
                f'<line class="line {curve.style}" x1="{across:.1f}" x2="{across:.1f}" '
                f'y1="{frame.py(score.low):.1f}" y2="{frame.py(score.high):.1f}"/>'
            )
        frame.dot(across, frame.py(score.value), curve.style, 2.5)


def _name_ends(
    frame: Frame, curves: Sequence[Curve], ends: Sequence[tuple[int, float, str]]
) -> None:
    """Write the names at the right, moved apart where they would overlap."""
    names = [(curve.scores[-1].value, curve.style, curve.name) for curve in curves]
    names += [(value, "model", name) for _, value, name in ends]
    shown = sorted(
        (frame.py(value) + 4, style, name) for value, style, name in names if math.isfinite(value)
    )
    x = SIZE[0] - MARGINS[2] + 9
    bottom = SIZE[1] - MARGINS[3] - LINE_HEIGHT * (len(shown) - 1)
    last = -math.inf
    for index, (y, style, name) in enumerate(shown):
        last = max(min(y, bottom + LINE_HEIGHT * index), last + LINE_HEIGHT)
        frame.parts.append(
            f'<text class="tick end {style}" x="{x}" y="{last:.1f}">{escape(name)}</text>'
        )
