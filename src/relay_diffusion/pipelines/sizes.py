"""Which stages make a picture of a given size."""

from __future__ import annotations

from itertools import product

from relay_diffusion.errors import RelayError

Size = tuple[int, int]
"""Height and width, in pixels."""


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of "256" or "1536x1024". Raises: RelayError for anything else."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise RelayError(f"size {text!r}; give a side (256) or WIDTHxHEIGHT (1536x1024)")
    return int(sides[0]), int(sides[-1])


def stages_for(height: int, width: int, base_size: int, multiple: int) -> list[Size]:
    """Sizes of all stages for a picture, smallest (the base stage) first, the picture last.

    A picture is halved while its area is above that of the base stage's square, so 1536x1024 on a
    base of 512 runs at 384x256, 768x512 and 1536x1024.

    Args:
        height, width: of the picture, in pixels.
        base_size: side of the square the base stage was trained at, in pixels.
        multiple: what the sides of the base stage must divide by: the factors of the VAE and the
            UNet multiplied.
    Raises: RelayError naming the nearest sizes that can be made.
    """
    if base_size < 1:
        raise RelayError(f"base_size is {base_size}; it must be a side in pixels, such as 512")
    if height < 1 or width < 1:
        raise RelayError(f"size {width}x{height}: width and height must be 1 or more")
    doublings = num_doublings(height, width, base_size)
    unit = multiple << doublings
    if height % unit or width % unit:
        nearest = _nearest(height, width, base_size, multiple)
        advice = f"the nearest that can are {' and '.join(nearest)}" if nearest else "too long"
        raise RelayError(
            f"size {width}x{height} cannot be made: with {doublings} doublings both sides must be "
            f"multiples of {unit}; {advice}"
        )
    return [(height >> halvings, width >> halvings) for halvings in range(doublings, -1, -1)]


def num_doublings(height: int, width: int, base_size: int) -> int:
    """How often a picture is halved until its area is at most ``base_size`` squared."""
    doublings = 0
    while height * width > base_size**2 * 4**doublings:
        doublings += 1
    return doublings


def _nearest(height: int, width: int, base_size: int, multiple: int) -> list[str]:
    """Up to two sizes, nearest first; the number of doublings may differ from the one asked for."""
    found: set[Size] = set()
    most = num_doublings(height, width, base_size) + 1
    for doublings in range(most + 1):
        unit = multiple << doublings
        for near in product(_around(height, unit), _around(width, unit)):
            if num_doublings(*near, base_size) == doublings:
                found.add(near)
    ordered = sorted(found, key=lambda near: (abs(near[0] - height) + abs(near[1] - width), near))
    return [f"{near[1]}x{near[0]}" for near in ordered[:2]]


def _around(side: int, unit: int) -> set[int]:
    below = side // unit * unit
    return {max(below, unit), below + unit}
