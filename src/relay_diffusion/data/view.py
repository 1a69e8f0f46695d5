"""How training pictures are seen: at which size, whole or in windows."""

from __future__ import annotations

from dataclasses import dataclass

from relay_diffusion.errors import RelayError

CROP_GRID = 16
"""Crop corners lie on this grid: the latent cells of a crop and of its half-size version do too."""


@dataclass(frozen=True)
class View:
    """How a batch is seen.

    Attributes:
        size: pixels along a side of the picture.
        crop: along a side of the random window that is taken of it; 0 takes all of it.
        weight: how often this view is chosen, in proportion.
    """

    size: int
    crop: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.crop <= self.size:
            raise RelayError(f"size is {self.size} and crop {self.crop}, must be at most the size")
        if self.weight < 0:
            raise RelayError(f"weight is {self.weight:g}, must be at least 0")

    @property
    def side(self) -> int:
        """Pixels along a side of what is seen."""
        return self.crop or self.size
