"""One way to encode and decode, whichever autoencoder of diffusers a cascade has.

A batch passes in parts of a megapixel, or of one picture where that is more, so that what it takes
of memory does not grow with the batch: of a megapixel, SDXL's has activations of half a gigabyte
each in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PIXELS_AT_ONCE = 2**20


def encode(vae: Any, x: Tensor) -> Tensor:
    """Latents of pictures, scaled, without randomness.

        z = (E(x) - shift) scale

    E is the mean of the posterior for an ``AutoencoderKL`` (the released CogView3 code samples it;
    this is a departure), ``.latent`` for an ``AutoencoderDC``. Scale and shift are those of its
    config (0.13025 and none for SDXL's).

    Args:
        x: pixels, (B, 3, H, W) in [-1, 1], any dtype; computed in the autoencoder's own.
    Returns: (B, C, H / 8, W / 8), float32.
    """
    scale, shift = _scale_and_shift(vae)
    parts = []
    for part in x.split(_at_once(x.shape[-2] * x.shape[-1])):
        encoded = vae.encode(part.to(vae.dtype))
        z = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latent
        parts.append((z.float() - shift) * scale)
    return torch.cat(parts)


def decode(vae: Any, z: Tensor) -> Tensor:
    """Pictures of scaled latents; ``decode(vae, encode(vae, x))`` is close to x.

        x = G(z / scale + shift)

    Args:
        z: (B, C, H / 8, W / 8), any dtype.
    Returns: (B, 3, H, W), float32, not clamped.
    """
    scale, shift = _scale_and_shift(vae)
    parts = [
        vae.decode((part.float() / scale + shift).to(vae.dtype)).sample.float()
        for part in z.split(_at_once(64 * z.shape[-2] * z.shape[-1]))
    ]
    return torch.cat(parts)


def _at_once(num_pixels: int) -> int:
    """How many pictures of so many pixels."""
    return max(1, PIXELS_AT_ONCE // num_pixels)


def _scale_and_shift(vae: Any) -> tuple[float, float]:
    return vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0
