"""Draws a matrix of numbers as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_CELL_WIDTH, _CELL_HEIGHT, _TOP, _CHARACTER = 96, 44, 64, 7
_LOW, _MIDDLE, _HIGH = (178, 24, 43), (247, 247, 247), (33, 102, 172)


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    notes: Sequence[Sequence[str]],
    limits: tuple[float, float],
) -> str:
    """Return an SVG document: a cell a value, red at the lower limit, white in the middle, blue at the upper one.

    Args:
        values: a row for each of `rows`; None is an empty cell.
        notes: a small text below each value, such as an interval.
    """
    left = 16 + _CHARACTER * max(map(len, rows))
    width = max(left + _CELL_WIDTH * len(columns) + 8, _CHARACTER * len(title) + 16)
    height = _TOP + _CELL_HEIGHT * len(rows) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}" font-family="sans-serif" font-size="12" fill="#1f2937">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="20" font-weight="bold">{escape(title)}</text>',
    ]
    for number, name in enumerate(columns):
        x = left + _CELL_WIDTH * (number + 0.5)
        parts.append(f'<text x="{x}" y="{_TOP - 10}" text-anchor="middle">{escape(_short(name))}</text>')
    for number, name in enumerate(rows):
        y = _TOP + _CELL_HEIGHT * number
        parts.append(f'<text x="{left - 8}" y="{y + 26}" text-anchor="end">{escape(name)}</text>')
        for place, (value, note) in enumerate(zip(values[number], notes[number], strict=True)):
            parts += _cell(left + _CELL_WIDTH * place, y, value, note, limits)
    return "\n".join([*parts, "</svg>", ""])


def _cell(x: int, y: int, value: float | None, note: str, limits: tuple[float, float]) -> list[str]:
    fill, ink = _colours(value, limits)
    middle = x + _CELL_WIDTH / 2
    shown = "-" if value is None else f"{value:+.3f}"
    box = f'<rect x="{x}" y="{y}" width="{_CELL_WIDTH - 2}" height="{_CELL_HEIGHT - 2}" fill="{fill}"/>'
    return [
        box,
        f'<text x="{middle}" y="{y + 19}" text-anchor="middle" fill="{ink}">{shown}</text>',
        f'<text x="{middle}" y="{y + 34}" text-anchor="middle" font-size="9" fill="{ink}">{escape(note)}</text>',
    ]


def _colours(value: float | None, limits: tuple[float, float]) -> tuple[str, str]:
    """Fill and ink of a cell."""
    if value is None:
        return "#e5e7eb", "#1f2937"
    low, high = limits
    share = min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5
    end, weight = (_HIGH, 2 * share - 1) if share >= 0.5 else (_LOW, 1 - 2 * share)
    red, green, blue = (round(m + weight * (e - m)) for m, e in zip(_MIDDLE, end, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}", "#ffffff" if weight > 0.6 else "#1f2937"


def _short(name: str) -> str:
    longest = _CELL_WIDTH // _CHARACTER
    return name if len(name) <= longest else name[: longest - 1] + "…"
