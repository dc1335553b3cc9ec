"""Line charts as SVG text, for pages without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 26, 32
COLOURS = ("#2563eb", "#dc2626", "#059669", "#7c3aed", "#d97706")


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its name, its points in order, and error bars `(low, high)`, one a point or none."""

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


def line_chart(title: str, series: Sequence[Series], y_range: tuple[float, float] | None = None) -> str:
    """An SVG element with axes, grid, lines, error bars and a legend; empty text if there is no point.

    `y_range` fixes the vertical axis, which otherwise spans the values.
    """
    lines = [line for line in series if len(line.xs)]
    if not lines:
        return ""
    xs = [x for line in lines for x in line.xs]
    ys = [y for line in lines for y in line.ys] + [y for line in lines for bar in line.bars for y in bar]
    across = _Scale(*_spread(min(xs), max(xs)), LEFT, WIDTH - RIGHT)
    up = _Scale(*(y_range or _spread(min(ys), max(ys))), HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        'xmlns="http://www.w3.org/2000/svg">',
        f'<text x="{LEFT}" y="15" class="title">{escape(title)}</text>',
        *_grid(across, up),
        *_legend(lines),
    ]
    for colour, line in zip(COLOURS * len(lines), lines, strict=False):
        parts += _line(line, colour, across, up)
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from low to high."""
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _spread(low: float, high: float) -> tuple[float, float]:
    """The range, widened where it is a point."""
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


def _legend(lines: Sequence[Series]) -> list[str]:
    parts = []
    x = WIDTH - RIGHT
    for colour, line in reversed(list(zip(COLOURS * len(lines), lines, strict=False))):
        parts.append(f'<text x="{x}" y="15" text-anchor="end" fill="{colour}">{escape(line.name)}</text>')
        x -= 7 * len(line.name) + 16
    return parts


def _line(line: Series, colour: str, across: _Scale, up: _Scale) -> list[str]:
    points = [(across.at(x), up.at(y)) for x, y in zip(line.xs, line.ys, strict=True)]
    path = " ".join(f"{x},{y}" for x, y in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>']
    for (x, _), (low, high) in zip(points, line.bars, strict=False):
        parts.append(f'<line x1="{x}" x2="{x}" y1="{up.at(low)}" y2="{up.at(high)}" stroke="{colour}"/>')
    if len(points) <= 40:
        parts += [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>' for x, y in points]
    return parts
