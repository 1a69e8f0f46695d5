"""Classifier-free guidance (arXiv:2207.12598), on estimates of z_0."""

from __future__ import annotations

import torch
from torch import Tensor

from relay_diffusion.diffusion.numerics import Scalar, per_sample
from relay_diffusion.diffusion.prediction import Denoise


def guide(unconditional: Tensor, conditional: Tensor, scale: Scalar) -> Tensor:
    """Move away from the unconditional estimate, past the conditional one.

        D = D_u + scale (D_c - D_u)

    CogView3 uses scale 7.5. 0 is unconditional, 1 is plain conditional sampling.

    Args:
        unconditional, conditional: estimates of z_0, (B, C, H, W).
        scale: a number, or (B,) where each sample has its own (guidance distillation).
    Returns: (B, C, H, W).
    """
    return unconditional + per_sample(scale, unconditional) * (conditional - unconditional)


def guided(denoise_pair: Denoise, scale: Scalar) -> Denoise:
    """A guided ``denoise`` of B samples from one of 2 B that runs both halves in one pass.

    Args:
        denoise_pair: gets z (2 B, C, H, W) and sigma (2 B,), both halves alike, and is built so
            that the first half is unconditional, the second conditional.
        scale: as in ``guide``.
    Returns: ``denoise(z, sigma)`` for z (B, C, H, W).
    """

    def denoise(z: Tensor, sigma: Tensor) -> Tensor:
        both = denoise_pair(torch.cat([z, z]), torch.cat([sigma, sigma]))
        unconditional, conditional = both.chunk(2)
        return guide(unconditional, conditional, scale)

    return denoise
