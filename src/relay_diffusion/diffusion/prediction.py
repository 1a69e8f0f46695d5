"""From what a network predicts (eps or v) to D, the estimate of z_0 all else is written in."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from relay_diffusion.diffusion.numerics import Scalar, per_sample

Denoise = Callable[[Tensor, Tensor], Tensor]
"""``denoise(z, sigma) -> D``: (B, C, H, W) at noise level sigma (B,) to the estimate of z_0."""


def eps_to_denoised(z: Tensor, eps_pred: Tensor, sigma: Scalar) -> Tensor:
    """Estimate of z_0 from a prediction of the noise.

        D = z_t - sigma eps_pred

    The released CogView3 networks (arXiv:2403.05121); DDPM's parametrisation in
    variance-exploding form.

    Args:
        z: noised latents, (B, C, H, W), unscaled (variance exploding).
        eps_pred: the network's output, (B, C, H, W).
        sigma: noise level, (B,) or a number.
    Returns: (B, C, H, W).
    """
    return z - per_sample(sigma, z) * eps_pred


def v_to_denoised(z: Tensor, v_pred: Tensor, sigma: Scalar) -> Tensor:
    """Estimate of z_0 from a velocity prediction (progressive distillation, arXiv:2202.00512).

        D = z_t / (sigma^2 + 1) - sigma / sqrt(sigma^2 + 1) v_pred

    Args and returns: as ``eps_to_denoised``.
    """
    sigma = per_sample(sigma, z)
    variance = sigma**2 + 1
    return z / variance - sigma / variance**0.5 * v_pred
