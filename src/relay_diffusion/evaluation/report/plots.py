"""Plots as SVG that stands in a page: its colours are the page's, so that dark mode has them too.

Series are told apart by the classes ``s0`` to ``s7`` and by their marks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 24, 44
NUM_COLOURS = 8
MOST_NAMES, LONGEST_NAME = 5, 34
"""Beside the points of one plot; of more models, or with longer names, numbers stand there, which
the key explains."""


@dataclass(frozen=True)
class Point:
    """A value with its interval; ``series`` chooses colour and mark."""

    label: str
    series: int
    value: float
    low: float
    high: float
    x: float = 0.0


def are_numbered(names: Sequence[str]) -> bool:
    """Whether points stand for too many models, or for ones with too long names, to be named."""
    return len(names) > MOST_NAMES or max(map(len, names)) > LONGEST_NAME


def scatter(
    points: Sequence[Point], x_name: str, y_name: str, numbered: bool = False, height: int = 300
) -> str:
    """Values against ``x``, which is drawn on a logarithmic scale; labels beside the points, or, if
    they are ``numbered``, what :func:`key` says."""
    x_low, x_high = min(p.x for p in points) / 1.5, max(p.x for p in points) * 1.5
    y_low, y_high = _span([v for p in points for v in (p.low, p.high)])

    def at(x: float, y: float) -> tuple[float, float]:
        across = (math.log(x) - math.log(x_low)) / (math.log(x_high) - math.log(x_low))
        up = (y - y_low) / (y_high - y_low)
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            height - _BOTTOM - up * (height - _TOP - _BOTTOM),
        )

    parts = []
    for value in _ticks(y_low, y_high):
        _, y = at(x_low, value)
        parts.append(_line(_LEFT, y, WIDTH - _RIGHT, y, "grid"))
        parts.append(_text(_LEFT - 8, y + 4, _short(value), "end"))
    for value in _log_ticks(x_low, x_high):
        x, _ = at(value, y_low)
        parts.append(_line(x, _TOP, x, height - _BOTTOM, "grid"))
        parts.append(_text(x, height - _BOTTOM + 16, _short(value), "middle"))
    for point in points:
        x, y = at(point.x, point.value)
        if point.high > point.low:
            parts.append(
                _line(x, at(point.x, point.low)[1], x, at(point.x, point.high)[1], _series(point))
            )
        parts.append(_mark(x, y, point))
    parts += _names(
        [
            (*at(point.x, point.value), str(point.series + 1) if numbered else point.label)
            for point in points
        ],
        apart=24 if numbered else WIDTH // 2,
    )
    parts.append(_text((_LEFT + WIDTH) / 2, height - 8, x_name, "middle", "axis"))
    parts.append(_text(4, _TOP - 10, y_name, "start", "axis"))
    return _svg(height, parts, f"{y_name} against {x_name}")


def intervals(rows: Sequence[tuple[str, Sequence[Point]]], title: str) -> str:
    """A row for each name, in it the models' values in [0, 1] with their intervals."""
    left, step, gap = 124, 14, 12
    heights = [len(points) * step + gap for _, points in rows]
    height = sum(heights) + _TOP + 28

    def at(value: float) -> float:
        return left + min(max(value, 0.0), 1.0) * (WIDTH - left - _RIGHT - 8)

    parts = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_line(at(value), _TOP - 8, at(value), height - 24, "grid"))
        parts.append(_text(at(value), height - 8, _short(value), "middle"))
    y = float(_TOP)
    for (name, points), tall in zip(rows, heights, strict=True):
        parts.append(_text(left - 10, y + (tall - gap) / 2 + 4, name, "end", "name"))
        for index, point in enumerate(points):
            middle = y + (index + 0.5) * step
            parts.append(_line(at(point.low), middle, at(point.high), middle, _series(point)))
            parts.append(_mark(at(point.value), middle, point))
        y += tall
    return _svg(height, parts, title)


def key(names: Sequence[str], numbered: bool = False) -> str:
    """Which colour and mark is which model's, as a line of the page, and which number."""
    items = []
    for series, name in enumerate(names):
        mark = _mark(8, 8, Point(name, series, 0, 0, 0))
        icon = f'<svg class="plot" width="16" height="16" aria-hidden="true">{mark}</svg>'
        number = f"{series + 1} " if numbered else ""
        items.append(f"<span>{icon} {number}{escape(name)}</span>")
    return f'<p class="key">{" ".join(items)}</p>'


def _svg(height: int, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _series(point: Point) -> str:
    return f"s{point.series % NUM_COLOURS}"


def _mark(x: float, y: float, point: Point) -> str:
    """A disc, a square, a diamond or a triangle."""
    title = f"<title>{escape(point.label)}: {_short(point.value)}</title>"
    form = point.series % 4
    kind = f'class="mark {_series(point)}"'
    if form == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {kind}>{title}</circle>'
    outline = (
        [(-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)],
        [(0, -6), (6, 0), (0, 6), (-6, 0)],
        [(0, -6), (5.5, 4.5), (-5.5, 4.5)],
    )[form - 1]
    corners = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in outline)
    return f'<polygon points="{corners}" {kind}>{title}</polygon>'


def _line(x_1: float, y_1: float, x_2: float, y_2: float, kind: str) -> str:
    return (
        f'<line x1="{x_1:.1f}" y1="{y_1:.1f}" x2="{x_2:.1f}" y2="{y_2:.1f}" class="line {kind}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'
    )


def _names(points: Sequence[tuple[float, float, str]], apart: float) -> list[str]:
    """Labels beside (x, y), towards the middle of the plot, none over another: one below the other
    where they are not so far ``apart``, across."""
    parts: list[str] = []
    placed: list[tuple[float, float]] = []
    for x, y, name in sorted(points, key=lambda point: point[1]):
        end, y = x > WIDTH / 2, y - 8
        while any(abs(y - other) < 14 and abs(x - at) < apart for at, other in placed):
            y += 7
        placed.append((x, y))
        parts.append(_text(x - 10 if end else x + 10, y, name, "end" if end else "start", "name"))
    return parts


def _span(values: Sequence[float]) -> tuple[float, float]:
    """With some room around; none below zero for what is never negative."""
    low, high = min(values), max(values)
    room = (high - low) * 0.12 or abs(high) * 0.1 or 1.0
    return (low - room if low < 0 else max(low - room, 0.0)), high + room


def _ticks(low: float, high: float) -> list[float]:
    """Four to ten round numbers."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**power for power in powers for m in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 10):.4g}"
