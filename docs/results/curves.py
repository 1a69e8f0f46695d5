"""Draw the training loss of runs that went on from one another, as SVG:

    python docs/results/curves.py starter-curves.svg base=runs/base5,runs/base7 relay=runs/relay8

Each name is a panel; of each run its log.jsonl is read, and the samples of one follow on those of
the one before. The losses of one panel compare as far as its runs had the same data and weighting.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, GAP = 420, 230, 48, 28, 40


def curve(runs: list[Path]) -> tuple[list[tuple[float, float]], list[float]]:
    """(thousand samples, loss), and where one run ends and the next begins."""
    points, ends, before = [], [], 0.0
    for run in runs:
        recipe = tomllib.loads((run / "export" / "recipe.toml").read_text())
        size = recipe["data"]["batch_size"]
        lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
        own = {line["step"]: line["loss"] for line in lines if "loss" in line}  # resumed: the last
        points += [(before + step * size / 1000, loss) for step, loss in sorted(own.items())]
        before += recipe["run"]["steps"] * size / 1000
        ends.append(before)
    return points, ends[:-1]


def panel(name: str, runs: list[Path], left: int) -> str:
    points, ends = curve(runs)
    most = points[-1][0]
    low, high = min(y for _, y in points), max(y for _, y in points)

    def at(x: float, y: float) -> str:
        across = left + LEFT + x / most * (WIDTH - LEFT)
        return f"{across:.1f},{TOP + (high - y) / (high - low) * HEIGHT:.1f}"

    line = " ".join(at(*point) for point in points)
    marks = "".join(f'<path d="M{at(x, low)} L{at(x, high)}" class="end"/>' for x in ends)
    labels = "".join(
        f'<text x="{left + LEFT - 6}" y="{TOP + (high - y) / (high - low) * HEIGHT + 4:.0f}" '
        f'text-anchor="end">{y:.3f}</text>'
        for y in (low, (low + high) / 2, high)
    )
    bottom = TOP + HEIGHT + 18
    return (
        f'<text x="{left + LEFT}" y="16" class="name">{name}</text>{labels}{marks}'
        f'<polyline points="{line}"/>'
        f'<text x="{left + LEFT}" y="{bottom}">0</text>'
        f'<text x="{left + WIDTH}" y="{bottom}" text-anchor="end">'
        f"{most:.0f} thousand samples</text>"
    )


def main() -> None:
    out, *panels = sys.argv[1:]
    drawn = []
    for number, spec in enumerate(panels):
        name, _, folders = spec.partition("=")
        drawn.append(panel(name, [Path(f) for f in folders.split(",")], number * (WIDTH + GAP)))
    width, height = len(panels) * (WIDTH + GAP), TOP + HEIGHT + 30
    style = (
        "text{font:11px sans-serif;fill:#444}.name{font-weight:600;font-size:13px}"
        "polyline{fill:none;stroke:#2563a8;stroke-width:1.3}.end{stroke:#bbb;stroke-dasharray:3 3}"
    )
    Path(out).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
        f'<rect width="100%" height="100%" fill="#fff"/><style>{style}</style>'
        f"{''.join(drawn)}</svg>\n"
    )


if __name__ == "__main__":
    main()
