"""Line and scatter charts as SVG text, for pages without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 26, 32
COLOURS = (
    "#2563eb",
    "#dc2626",
    "#059669",
    "#7c3aed",
    "#d97706",
    "#0891b2",
    "#db2777",
    "#65a30d",
    "#64748b",
    "#92400e",
)


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or the dots of one colour: name, points in order, and error bars `(low, high)`, one a point or none."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    bars: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def line_chart(
    title: str, series: Sequence[Series], y_range: tuple[float, float] | None = None, *, legend: bool = True
) -> str:
    """Return an SVG element with axes, grid, lines, error bars and a legend; empty text if there is no point.

    `y_range` fixes the vertical axis, which otherwise spans the values. Series have the colours of `colour`, in order.
    """
    if not any(len(line.xs) for line in series):
        return ""
    xs = [x for line in series for x in line.xs]
    ys = [y for line in series for y in line.ys] + [y for line in series for bar in line.bars for y in bar]
    across = _Scale(*_spread(min(xs), max(xs)), LEFT, WIDTH - RIGHT)
    up = _Scale(*(y_range or _spread(min(ys), max(ys))), HEIGHT - BOTTOM, TOP)
    drawn = [part for number, line in enumerate(series) for part in _line(line, colour(number), across, up)]
    return _chart(title, [*_grid(across, up), *(_legend(series) if legend else []), *drawn])


def scatter_chart(title: str, series: Sequence[Series], *, diagonal: bool = True, legend: bool = True) -> str:
    """Return an SVG element with the points of each series; empty text if there is no point.
    Each axis spans its own values.

    `diagonal` draws the line on which both coordinates are equal.
    """
    if not any(len(points.xs) for points in series):
        return ""
    xs, ys = [x for points in series for x in points.xs], [y for points in series for y in points.ys]
    across = _Scale(*_spread(min(xs), max(xs)), LEFT, WIDTH - RIGHT)
    up = _Scale(*_spread(min(ys), max(ys)), HEIGHT - BOTTOM, TOP)
    drawn = [*_grid(across, up), *(_legend(series) if legend else []), *(_diagonal(across, up) if diagonal else [])]
    for number, points in enumerate(series):
        drawn += _dots([(across.at(x), up.at(y)) for x, y in zip(points.xs, points.ys, strict=True)], colour(number))
    return _chart(title, drawn)


def colour(number: int) -> str:
    """Return the colour of the series with this number; they repeat after `COLOURS`."""
    return COLOURS[number % len(COLOURS)]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers from low to high."""
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _spread(low: float, high: float) -> tuple[float, float]:
    """Return the range, widened where it is a point."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _grid(across: _Scale, up: _Scale) -> list[str]:
    parts = []
    for value in ticks(up.low, up.high):
        y = up.at(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for value in ticks(across.low, across.high):
        parts.append(f'<text x="{across.at(value)}" y="{HEIGHT - 12}" text-anchor="middle">{value:g}</text>')
    return parts


def _legend(series: Sequence[Series]) -> list[str]:
    """Write the names of the series that have points, in their colours, from the right."""
    parts = []
    x = WIDTH - RIGHT
    for number, line in reversed(list(enumerate(series))):
        if len(line.xs):
            style = f'style="fill:{colour(number)}"'  # as an attribute, the page's own colour of text would win
            parts.append(f'<text x="{x}" y="15" text-anchor="end" {style}>{escape(line.name)}</text>')
            x -= 7 * len(line.name) + 16
    return parts


def _line(line: Series, stroke: str, across: _Scale, up: _Scale) -> list[str]:
    if not len(line.xs):
        return []
    points = [(across.at(x), up.at(y)) for x, y in zip(line.xs, line.ys, strict=True)]
    path = " ".join(f"{x},{y}" for x, y in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="1.6"/>']
    for (x, _), (low, high) in zip(points, line.bars, strict=False):
        parts.append(f'<line x1="{x}" x2="{x}" y1="{up.at(low)}" y2="{up.at(high)}" stroke="{stroke}"/>')
    return parts + (_dots(points, stroke) if len(points) <= 40 else [])


def _dots(points: Sequence[tuple[float, float]], fill: str) -> list[str]:
    return [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{fill}"/>' for x, y in points]


def _diagonal(across: _Scale, up: _Scale) -> list[str]:
    """Return the part of y = x that is in the picture, if any."""
    low, high = max(across.low, up.low), min(across.high, up.high)
    if low >= high:
        return []
    ends = f'x1="{across.at(low)}" y1="{up.at(low)}" x2="{across.at(high)}" y2="{up.at(high)}"'
    return [f'<line {ends} class="grid" stroke-dasharray="4 3"/>']


def _chart(title: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
    return "".join(
        [
            head,
            'xmlns="http://www.w3.org/2000/svg">',
            f'<text x="{LEFT}" y="15" class="title">{escape(title)}</text>',
            *parts,
            "</svg>",
        ]
    )
