"""One way to encode and decode, whichever autoencoder of diffusers a cascade has."""

from __future__ import annotations

from typing import Any

from torch import Tensor


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
    encoded = vae.encode(x.to(vae.dtype))
    z = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latent
    scale, shift = _scale_and_shift(vae)
    return (z.float() - shift) * scale


def decode(vae: Any, z: Tensor) -> Tensor:
    """Pictures of scaled latents; ``decode(vae, encode(vae, x))`` is close to x.

        x = G(z / scale + shift)

    Args:
        z: (B, C, H / 8, W / 8), any dtype.
    Returns: (B, 3, H, W), float32, not clamped.
    """
    scale, shift = _scale_and_shift(vae)
    x: Tensor = vae.decode((z.float() / scale + shift).to(vae.dtype)).sample
    return x.float()


def _scale_and_shift(vae: Any) -> tuple[float, float]:
    return vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0
