"""What a stage that doubles a picture is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from relay_diffusion.models.autoencoder import decode, encode


def low_resolution(
    vae: Any,
    x: Tensor,
    through_vae: Tensor,
    redrawn: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """The picture as the stage below would hand it up: bilinear down by 2, for some samples through
    the autoencoder at that size, bilinear up by 2.

    Args:
        x: (B, 3, H, W) in [-1, 1].
        through_vae: (B,) bool.
        redrawn: (z, rows) -> z, what becomes of the latents (B', C, H / 16, W / 16) of those
            samples; rows (B',) says which they are.
    Returns: (B, 3, H, W) in [-1, 1].
    """
    small = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
    rows = torch.nonzero(through_vae).flatten()
    if len(rows):
        z = encode(vae, small[rows])
        if redrawn is not None:
            z = redrawn(z, rows)
        small[rows] = decode(vae, z).to(small.dtype).clamp(-1, 1)
    return enlarge(small)


def enlarge(x: Tensor) -> Tensor:
    """The relay's low-resolution input: bilinear x2 in pixel space (CogView3, section 3.2)."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
