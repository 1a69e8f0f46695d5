"""How a distilled network is told its guidance scale."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def has_guidance(unet: Any) -> bool:
    """Whether a network is told its guidance scale, and so runs without an unconditional half;
    not if there is none."""
    return unet is not None and unet.config.time_cond_proj_dim is not None


def guidance_embedding(scale: Tensor, width: int) -> Tensor:
    """Sinusoids of the guidance scale, as the released distilled networks read them.

        [sin(1000 w f_i), cos(1000 w f_i)],    f_i = 10000^(-i / (width / 2 - 1))

    The scale itself, 7.5 as 7500: not diffusers' ``guidance_scale - 1``. In float32 and in this
    order of operations, since phases reach thousands of radians and the networks were trained on
    the rounded ones.

    Args:
        scale: guidance scale w, (B,).
        width: of the embedding, even, 4 or more; 512 in the released base networks, 256 in the
            relay ones (``time_cond_proj_dim`` of the UNet).
    Returns: (B, width), float32.
    """
    half = width // 2
    log_step = math.log(10000) / (half - 1)
    indices = torch.arange(half, dtype=torch.float32, device=scale.device)
    phases = (scale.float() * 1000)[:, None] * torch.exp(indices * -log_step)[None]
    return torch.cat([phases.sin(), phases.cos()], dim=1)
