"""Aspect-ratio buckets: shapes of about one area, for pictures that are not square.

A batch has one shape; a picture goes to the nearest one, is resized to cover it, and cropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError

MULTIPLES = (64, 32, 16, 8)
Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Bucket:
    """A shape that pictures are made to fill.

    Attributes:
        height, width: of what is seen.
        size: 0, or the side of the square whose area the resized picture has, of which the bucket
            then is a window.
    """

    height: int
    width: int
    size: int = 0

    @property
    def log_aspect(self) -> float:
        return math.log(self.width / self.height)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a picture when it just covers the bucket, or has the area of
        ``size``, if that covers it too; the aspect is kept to the pixel."""
        scale = max(self.height / height, self.width / width)
        if self.size:
            scale = max(scale, self.size / math.sqrt(height * width))
        return max(self.height, round(height * scale)), max(self.width, round(width * scale))


def default_multiple(size: int) -> int:
    """An eighth of the size, between 16 and 64, that divides it: 64 from 512 on, as the UNet of
    CogView3 wants it, and at small sizes one that leaves a choice of shapes.

    Raises: RelayError if there is none.
    """
    for multiple in MULTIPLES:
        if multiple <= max(16, size // 8) and size % multiple == 0:
            return multiple
    raise RelayError(f"size is {size}, must be a multiple of {MULTIPLES[-1]}")


def buckets(size: int, multiple: int = 0, max_aspect: float = 2.0) -> tuple[Bucket, ...]:
    """Shapes of about ``size``^2 pixels, tall ones first.

    To each side that is a multiple, the other side that is a multiple and keeps the area best, to
    within half a multiple.

    Args:
        multiple: of both sides; 0 takes :func:`default_multiple`.
        max_aspect: longer by shorter side, at most; 1 leaves the square.
    Raises: RelayError if ``size`` is no multiple.
    """
    multiple = multiple or default_multiple(size)
    if size % multiple:
        raise RelayError(f"size is {size}, must be a multiple of data.multiple, {multiple}")
    shapes = set()
    for side in range(multiple, int(size * max_aspect) + 1, multiple):
        other = round(size * size / side / multiple) * multiple
        if max(side, other) <= max_aspect * min(side, other):
            shapes |= {(side, other), (other, side)}
    return tuple(
        sorted((Bucket(*shape) for shape in shapes), key=lambda b: (b.log_aspect, b.height))
    )


def view_buckets(view: View, multiple: int = 0, max_aspect: float = 2.0) -> tuple[Bucket, ...]:
    """The buckets of a view; with a crop it is one, a square window of a picture of that area."""
    if view.crop:
        return (Bucket(view.crop, view.crop, view.size),)
    return buckets(view.size, multiple, max_aspect)


def nearest(shapes: tuple[Bucket, ...], heights: Numbers, widths: Numbers) -> Numbers:
    """Index of the bucket whose log aspect is nearest to each picture's; a tie goes to the taller.

    Args: shapes by ascending log aspect, as :func:`buckets` gives them.
    """
    aspects = np.array([bucket.log_aspect for bucket in shapes])
    between = (aspects[1:] + aspects[:-1]) / 2
    return np.searchsorted(between, np.log(widths / heights), side="left")
