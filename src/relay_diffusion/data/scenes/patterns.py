"""Building blocks of surfaces: waves and noise as functions of position, free of aliasing.

A position ``p`` is (B, H, W, 2), in units of the picture's shorter side. ``footprint`` (B, 1, 1) is
the width of a pixel (or of a style's block) in the same unit: whatever repeats faster than two or
three pixels fades to its mean, so that a surface rendered at 128, 256 and 512 is the same surface,
with more in it each time.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE_SIDE = 64


def fade(period: Tensor | float, footprint: Tensor | float) -> Tensor:
    """Contrast left of a pattern: 1 from three and a half pixels a period on, 0 below two, so that
    nothing of it beats against the pixel grid."""
    pixels = torch.as_tensor(period / footprint)
    return ((pixels - 2) / 1.5).clamp(0, 1)


def wave(phase: Tensor, period: float, footprint: Tensor) -> Tensor:
    """Sine between 0 and 1; ``phase`` counts periods."""
    return 0.5 + 0.5 * fade(period, footprint) * torch.sin(2 * math.pi * phase)


WEAVE = 128
"""Threads across a picture: four pixels each at 512, so that a weave lies the same way in every
cell of an 8x autoencoder, and detail that 256 cannot show costs the networks no position code."""


def weave(p: Tensor, footprint: Tensor) -> Tensor:
    """Threads up and across, between 0 and 1, mean 1/4."""
    across, down = (wave(p[..., axis] * WEAVE, 1 / WEAVE, footprint) for axis in (0, 1))
    return across * down


def lines(phase: Tensor, width: float, period: float, footprint: Tensor) -> Tensor:
    """1 on lines at whole ``phase``, ``width`` of a period wide, 0 between; edges one pixel soft.

    Where lines are thinner than a pixel they keep their share of the area: the mean is ``width``.
    """
    distance = (phase - phase.round()).abs()
    soft = (footprint / period).clamp(min=1e-4)
    line = ((width / 2 - distance) / soft + 0.5).clamp(0, 1)
    contrast = fade(period, footprint)
    return width + (line - width) * contrast


def disc(offset: Tensor, radius: Tensor | float, footprint: Tensor) -> Tensor:
    """1 within ``radius`` of the origin of ``offset`` (..., 2), edge one pixel soft."""
    distance = offset.square().sum(-1).sqrt()
    return ((radius - distance) / footprint + 0.5).clamp(0, 1)


@lru_cache(maxsize=4)
def _noise_tile(device: str) -> Tensor:
    """Uniform numbers on a torus, (1, 2, N+1, N+1): one tile for all pictures, on every machine."""
    generator = torch.Generator().manual_seed(20240521)
    tile = torch.rand((1, 2, NOISE_SIDE, NOISE_SIDE), generator=generator)
    return F.pad(tile, (0, 1, 0, 1), mode="circular").to(device)


def noise(p: Tensor, frequency: float, footprint: Tensor, offset: Tensor) -> Tensor:
    """Smooth noise between 0 and 1, ``frequency`` bumps across the picture, (B, H, W).

    Args:
        offset: (B, 2), where in the tile each picture looks.
    """
    where = (p * frequency + offset[:, None, None] * NOISE_SIDE) % NOISE_SIDE
    grid = where * (2 / NOISE_SIDE) - 1
    tile = _noise_tile(str(p.device))[:, :1].expand(p.shape[0], -1, -1, -1)
    value = F.grid_sample(tile, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return 0.5 + (value[:, 0] - 0.5) * fade(1 / frequency, footprint)


def cell_random(cell: Tensor, offset: Tensor) -> Tensor:
    """A uniform number for each whole-numbered cell, (B, H, W) from (B, H, W, 2)."""
    shift = (offset * NOISE_SIDE).long()[:, None, None]
    index = (cell.long() * torch.tensor([7, 13], device=cell.device) + shift) % NOISE_SIDE
    return _noise_tile(str(cell.device))[0, 1][index[..., 1], index[..., 0]]
