"""How training pictures are seen: at which size, whole or in windows."""

from __future__ import annotations

from dataclasses import dataclass

from relay_diffusion.errors import RelayError

CROP_GRID = 16
"""Crop corners lie on this grid: the latent cells of a crop and of its half-size version do too."""


@dataclass(frozen=True)
class View:
    """How a batch is seen: drawn ``size`` x ``size``, of which a random window of ``crop`` x
    ``crop`` is taken (0: all of it); chosen with a probability proportional to ``weight``."""

    size: int
    crop: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.crop <= self.size:
            raise RelayError(f"size is {self.size} and crop {self.crop}, must be at most the size")

    @property
    def side(self) -> int:
        """Pixels along a side of what is seen."""
        return self.crop or self.size
