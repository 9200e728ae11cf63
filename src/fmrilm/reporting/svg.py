"""Small charts as inline SVG, coloured by the page's own style sheet so they follow its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Line:
    """One curve: points, style class (``model``, ``other``, ``faint``, ``dash``) and name."""

    x: ArrayLike
    y: ArrayLike
    style: str = "model"
    name: str = ""


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers between ``low`` and ``high``, about ``count`` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def number(value: float) -> str:
    """Return a tick label: short, without trailing zeros."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


class Frame:
    """A plotting area with axes; coordinates are mapped linearly.

    Parameters
    ----------
    size : (float, float)
        Width and height in pixels.
    x, y : (float, float)
        Ranges of the data.
    margins : (float, float, float, float)
        Left, top, right and bottom, in pixels.
    """

    def __init__(
        self,
        size: tuple[float, float],
        x: tuple[float, float],
        y: tuple[float, float],
        margins: tuple[float, float, float, float] = (40, 10, 10, 34),
    ) -> None:
        self.size, self.x_range, self.y_range, self.margins = size, x, y, margins
        self.parts: list[str] = []

    def px(self, value: float) -> float:
        """Return the horizontal pixel of a value."""
        low, high = self.x_range
        left, _, right, _ = self.margins
        span = (high - low) or 1.0
        return left + (value - low) / span * (self.size[0] - left - right)

    def py(self, value: float) -> float:
        """Return the vertical pixel of a value."""
        low, high = self.y_range
        _, top, _, bottom = self.margins
        span = (high - low) or 1.0
        return self.size[1] - bottom - (value - low) / span * (self.size[1] - top - bottom)

    def axes(
        self,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        x_label: str = "",
        y_label: str = "",
    ) -> Frame:
        """Draw grid lines, tick labels and axis names."""
        left, top, right, bottom = self.margins
        width, height = self.size
        base = height - bottom
        for value in y_ticks:
            y = self.py(value)
            self.parts.append(
                f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="tick" x="{left - 6}" y="{y + 3.5:.1f}" text-anchor="end">'
                f"{number(value)}</text>"
            )
        self.parts.append(
            f'<line class="axis" x1="{left}" x2="{width - right}" y1="{base}" y2="{base}"/>'
        )
        for value in x_ticks:
            x = self.px(value)
            self.parts.append(
                f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>'
                f'<text class="tick" x="{x:.1f}" y="{base + 15}" text-anchor="middle">'
                f"{number(value)}</text>"
            )
        if x_label:
            middle = (left + width - right) / 2
            self.parts.append(
                f'<text class="label" x="{middle:.1f}" y="{height - 3}" text-anchor="middle">'
                f"{escape(x_label)}</text>"
            )
        if y_label:
            middle = (top + base) / 2
            self.parts.append(
                f'<text class="label" transform="translate(10 {middle:.1f}) rotate(-90)" '
                f'text-anchor="middle">{escape(y_label)}</text>'
            )
        return self

    def line(self, line: Line) -> Frame:
        """Draw a curve; a break where a value is nan, a dot where it is a single point."""
        points = [
            (self.px(x), self.py(y)) if math.isfinite(y) else None
            for x, y in zip(np.asarray(line.x, float), np.asarray(line.y, float), strict=True)
        ]
        path, pen = [], "M"
        for point in points:
            if point is None:
                pen = "M"
                continue
            path.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
            pen = "L"
        title = f"<title>{escape(line.name)}</title>" if line.name else ""
        self.parts.append(f'<path class="line {line.style}" d="{"".join(path)}">{title}</path>')
        if len(path) == 1:
            [point] = [p for p in points if p is not None]
            self.dot(*point, line.style)
        return self

    def dot(self, x: float, y: float, style: str, radius: float = 3) -> Frame:
        """Draw a dot at a pixel."""
        self.parts.append(
            f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'
        )
        return self

    def band(self, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> Frame:
        """Shade the area between two curves."""
        forth = [f"{self.px(a):.1f} {self.py(b):.1f}" for a, b in zip(x, high, strict=True)]
        back = [f"{self.px(a):.1f} {self.py(b):.1f}" for a, b in zip(x, low, strict=True)]
        self.parts.append(f'<path class="band" d="M{"L".join([*forth, *back[::-1]])}Z"/>')
        return self

    def render(self, about: str) -> str:
        """Return the SVG element; ``about`` is read out to those who cannot see it."""
        width, height = self.size
        return (
            f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" role="img" aria-label="{escape(about)}">{"".join(self.parts)}'
            "</svg>"
        )


def extent(values: ArrayLike, pad: float = 0.06) -> tuple[float, float]:
    """Return a range around the finite ``values``, a little wider than they are."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    gap = (high - low) * pad or abs(high) * pad or 0.5
    return low - gap, high + gap
