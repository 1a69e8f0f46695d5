"""Several pictures on one sheet."""

from __future__ import annotations

import math

from PIL import Image

LONGEST_SIDE = 8192
"""In pixels; the pictures are made smaller on a sheet that would be larger."""
GAP = 2
"""Between pictures, in pixels."""


class Grid:
    """A sheet that fills up picture by picture, row by row, without keeping the pictures."""

    def __init__(self, num: int, columns: int, size: tuple[int, int]) -> None:
        """
        Args:
            num, columns: how many pictures, and how many in a row.
            size: width and height of a picture, in pixels.
        """
        rows = -(-num // columns)
        longest = max(columns * (size[0] + GAP), rows * (size[1] + GAP))
        scale = min(1.0, LONGEST_SIDE / longest)
        self._cell = (max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))
        self._columns, self._filled = columns, 0
        width, height = (
            count * (side + GAP) - GAP
            for count, side in zip((columns, rows), self._cell, strict=True)
        )
        self.image = Image.new("RGB", (width, height), "white")

    def add(self, picture: Image.Image) -> None:
        row, column = divmod(self._filled, self._columns)
        left, top = (
            index * (side + GAP) for index, side in zip((column, row), self._cell, strict=True)
        )
        self.image.paste(picture.resize(self._cell, Image.Resampling.LANCZOS), (left, top))
        self._filled += 1


def columns_for(num_prompts: int, num_each: int) -> int:
    """A row for each prompt; a sheet near square where there is one row only, or one column."""
    if min(num_prompts, num_each) > 1:
        return num_each
    return math.ceil(math.sqrt(num_prompts * num_each))
