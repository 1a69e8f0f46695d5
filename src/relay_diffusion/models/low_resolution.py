"""What a stage that doubles a picture is given."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from relay_diffusion.models.autoencoder import decode, encode


def low_resolution(vae: Any, x: Tensor, through_vae: Tensor) -> Tensor:
    """The picture as the stage below would hand it up: bilinear down by 2, for some samples through
    the autoencoder at that size, bilinear up by 2.

    Args:
        x: (B, 3, H, W) in [-1, 1].
        through_vae: (B,) bool.
    Returns: (B, 3, H, W) in [-1, 1].
    """
    small = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
    rows = torch.nonzero(through_vae).flatten()
    if len(rows):
        small[rows] = decode(vae, encode(vae, small[rows])).to(small.dtype).clamp(-1, 1)
    return F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
