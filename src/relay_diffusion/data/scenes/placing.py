"""Where things go in a picture, and how large: boxes inside it, apart, and plainly so placed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from relay_diffusion.data.scenes.scene import Thing

SIZES = {
    1: {"small": (0.30, 0.38), "": (0.45, 0.56), "large": (0.64, 0.78)},
    2: {"small": (0.26, 0.32), "": (0.34, 0.40), "large": (0.42, 0.48)},
}
"""By the number of things, the word for a size, and its range: sides as in ``Thing.size``."""


def room(aspect: float) -> tuple[float, float]:
    """Width and height of a picture whose shorter side is 1."""
    return (aspect, 1.0) if aspect > 1 else (1.0, 1 / aspect)


def draw_size(draw: Random, num: int) -> float:
    """A size for one of ``num`` things, small or large now and then."""
    word = draw.choices(("small", "", "large"), (1, 2, 1))[0]
    return draw.uniform(*SIZES[num][word])


def size_on_grid(size: float, num: int, grid: int) -> float:
    """The largest multiple of 1 / ``grid`` that the word of a size, for one of ``num`` things,
    has in its range; below ``size`` where no word has it."""
    ranges = SIZES.get(num, {}).values()
    most = next((high for low, high in ranges if low <= size <= high), size)
    return max(1, math.floor(most * grid + 1e-6)) / grid


def on_grid(thing: Thing, num: int, grid: int, aspect: float) -> Thing:
    """The same thing, one of ``num``, in a size of the grid and with its box on the nearest lines
    inside the picture. Boxes that were apart in such sizes stay apart or touch: rounding keeps an
    order."""
    size = size_on_grid(thing.size, num, grid)
    width, height = room(aspect)
    x = _corner(thing.x * width, size, width, grid) + size / 2
    y = _corner(thing.y * height, size, height, grid) + size / 2
    return replace(thing, x=x / width, y=y / height, size=size)


def _corner(centre: float, size: float, side: float, grid: int) -> float:
    last = math.floor((side - size) * grid + 1e-6)
    return min(max(0, math.floor((centre - size / 2) * grid + 0.5)), last) / grid


def inside(draw: Random, size: float, aspect: float) -> tuple[float, float]:
    """A centre such that at least nine tenths of the box are in the picture."""
    width, height = room(aspect)
    x = _spread(draw, width, size)
    y = _spread(draw, height, size)
    return x / width, y / height


def at_place(draw: Random, place: str, size: float, aspect: float) -> tuple[float, float]:
    """A centre where captions say ``place``: a corner ("top left"), a side, or "middle"."""
    width, height = room(aspect)
    words = place.split()
    x = _towards(draw, "left" in words, "right" in words, width, size)
    y = _towards(draw, "top" in words, "bottom" in words, height, size)
    return x, y


def beside(
    draw: Random, relation: str, sizes: Sequence[float], aspect: float
) -> list[tuple[float, float]]:
    """Centres of two boxes, side by side or one over the other: the left or upper one first.

    Args:
        relation: "left of" or "right of" for side by side, else one over the other.
        sizes: of the two, in the order of the result.
    """
    along_x = relation in ("left of", "right of")
    width, height = room(aspect)
    spare = (width if along_x else height) - sum(sizes)
    gaps = sorted(draw.uniform(0, spare) for _ in range(2))
    gaps[1] = max(gaps[1], min(spare, gaps[0] + 0.02))
    along = [gaps[0] + sizes[0] / 2, gaps[1] + sizes[0] + sizes[1] / 2]
    middle = (height if along_x else width) / 2
    # Centres stay within 0.12 of one line, so that nobody could say the other relation.
    across = [middle + draw.uniform(-0.12, 0.12) for _ in range(2)]
    centres = zip(along, across, strict=True) if along_x else zip(across, along, strict=True)
    return [(x / width, y / height) for x, y in centres]


def _spread(draw: Random, side: float, size: float) -> float:
    """Near the middle more often than at the edge."""
    spare = max(0.0, (side - size * 0.9) / 2)
    u = draw.uniform(-1, 1)
    return side / 2 + math.copysign(abs(u) ** 1.5, u) * spare


def _towards(draw: Random, near: bool, far: bool, side: float, size: float) -> float:
    """A fraction of a side: in its first two fifths, in its last two, or in the fifth between."""
    if not near and not far:
        return draw.uniform(0.42, 0.58)
    fraction = draw.uniform(size * 0.45 / side, 0.38)
    return fraction if near else 1 - fraction
