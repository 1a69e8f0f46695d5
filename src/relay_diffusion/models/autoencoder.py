"""Pixels to latents and back, one way for every diffusers autoencoder of factor 8."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def encode(vae: Any, x: Tensor) -> Tensor:
    """Latents of pictures.

        z = scaling_factor (E(x) - shift_factor)

    ``AutoencoderKL``: E is the posterior mean (the released code samples it; we do not, so that a
    picture has one latent). ``AutoencoderDC``: E is deterministic.

    Args:
        vae: an ``AutoencoderKL`` or ``AutoencoderDC``; it runs in its own dtype.
        x: (B, 3, H, W) in [-1, 1], H and W multiples of 8.
    Returns: (B, C, H/8, W/8) float32.
    """
    encoded = vae.encode(x.to(vae.dtype))
    z = encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mode()
    return vae.config.scaling_factor * (z.float() - _shift(vae))


def decode(vae: Any, z: Tensor) -> Tensor:
    """Pictures of latents: D(z / scaling_factor + shift_factor), the inverse scaling of ``encode``.

    Args: z (B, C, H, W).
    Returns: (B, 3, 8H, 8W) float32, about [-1, 1], not clamped.
    """
    z = z.float() / vae.config.scaling_factor + _shift(vae)
    return vae.decode(z.to(vae.dtype)).sample.float()


def _shift(vae: Any) -> float:
    return getattr(vae.config, "shift_factor", None) or 0.0
