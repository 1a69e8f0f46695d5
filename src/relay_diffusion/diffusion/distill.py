"""Distillation: a student does in one step what its teacher does in several.

By halving (progressive distillation, arXiv:2202.00512), two steps at a time; or by consistency
(multistep consistency models, arXiv:2403.06807), from anywhere within a step to its end.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relay_diffusion.diffusion.numerics import Scalar, mean_square, per_sample, require_shape
from relay_diffusion.diffusion.prediction import Denoise
from relay_diffusion.diffusion.relay import relay_step, require_base_stage, step_coefficients


def distillation_target(
    z: Tensor,
    z_after: Tensor,
    sigma: Scalar,
    sigma_after: Scalar,
    tau: Scalar = 0.0,
    tau_after: Scalar = 0.0,
    z_lr: Tensor | None = None,
) -> Tensor:
    """The D* with which one step from (sigma, tau) lands where the teacher's steps landed.

        r = sigma'' / sigma
        D* = (z'' - r z - [tau'' - r tau] z_lr) / [(1 - tau'') - r (1 - tau)]

    It is ``relay_step`` solved for D. With tau = tau'' = 0 it is the base stage. Equation 9 of
    CogView3 (arXiv:2403.05121) prints z_0 / t where the coefficients sum to one only with
    2 z_0 / t; this form has no such constant. Steps from tau = 1 and steps to sigma = 0 need no
    special case.

    Args:
        z: where both start, (B, C, H, W).
        z_after: where the teacher ended, usually after two steps, (B, C, H, W).
        sigma, sigma_after: noise levels there, (B,) or numbers; sigma > sigma_after >= 0.
        tau, tau_after: relay fractions there, (B,) or numbers; tau >= tau_after, tau_after < 1.
        z_lr: low-resolution latent, (B, C, H, W); None in the base stage only.
    Returns: D*, (B, C, H, W).
    Raises: ValueError as ``relay_step``, and for numbers between which D has no part.
    """
    require_shape("z_after", z_after, z)
    on_z, on_denoised, on_z_lr = step_coefficients(sigma, sigma_after, tau, tau_after)
    remainder = z_after - per_sample(on_z, z) * z
    if z_lr is None:
        require_base_stage(tau, tau_after)
    else:
        require_shape("z_lr", z_lr, z)
        remainder = remainder - per_sample(on_z_lr, z) * z_lr
    if not isinstance(on_denoised, Tensor) and on_denoised == 0:
        raise ValueError(
            f"from sigma {sigma}, tau {tau} to sigma {sigma_after}, tau {tau_after} is no step: "
            "where it lands does not depend on D"
        )
    return remainder / per_sample(on_denoised, z)


def distillation_loss(
    student: Denoise,
    teacher: Denoise,
    z: Tensor,
    sigmas: Sequence[Tensor],
    taus: Sequence[Tensor] | None = None,
    z_lr: Tensor | None = None,
) -> Tensor:
    """How far the student's estimate is from the one that would do the teacher's steps in one.

        z' , z'', ... = Euler steps of the teacher from z
        loss = mean over C, H, W of (D_student(z, sigma) - D*)^2

    with D* of :func:`distillation_target`, at which the gradient stops. Unweighted: see
    :func:`truncated_snr_weight`.

    Args:
        student, teacher: estimates of z_0.
        z: latents at the first level, (B, C, H, W).
        sigmas: the teacher's noise levels, each (B,): where it starts, and after each of its steps
            (three for two steps).
        taus: relay fractions at the same places, each (B,); None in the base stage.
        z_lr: low-resolution latent, (B, C, H, W); None in the base stage.
    Returns: (B,), dtype of the student's estimate. Raises: ValueError for less than two levels.
    """
    if len(sigmas) < 2:
        raise ValueError(f"{len(sigmas)} noise levels; give those before and after a step")
    fractions: Sequence[Scalar] = [0.0] * len(sigmas) if taus is None else taus
    with torch.no_grad():
        z_after = z
        for i in range(len(sigmas) - 1):
            z_after = relay_step(
                z_after,
                teacher(z_after, sigmas[i]),
                z_lr,
                sigmas[i],
                sigmas[i + 1],
                fractions[i],
                fractions[i + 1],
            )
        target = distillation_target(
            z, z_after, sigmas[0], sigmas[-1], fractions[0], fractions[-1], z_lr
        )
    return mean_square(student(z, sigmas[0]) - target)


def consistency_loss(
    student: Denoise,
    teacher: Denoise,
    z: Tensor,
    sigmas: Sequence[Tensor],
    taus: Sequence[Tensor] | None = None,
    z_lr: Tensor | None = None,
) -> Tensor:
    """How far the student's estimate is from the one that lands where its own estimate would, made
    one step of the teacher further down.

        z'  = Euler step of the teacher, (sigma, tau) -> (sigma', tau')
        z'' = step of the student from there to the end of its step, (sigma'', tau'')
        loss = mean over C, H, W of (D_student(z, sigma) - D*)^2

    with D* of :func:`distillation_target`, at which the gradient stops. Where all is learned, one
    step of the student from any of the teacher's levels lands where the teacher's steps do. The
    student is its own target, without an average (arXiv:2310.14189). Unweighted.

    Args:
        student, teacher: estimates of z_0.
        z: latents at the first level, (B, C, H, W).
        sigmas: three levels, each (B,): where z is, one teacher's step further, and the end of the
            student's step, which may be the same.
        taus: relay fractions at the same places, each (B,); None in the base stage.
        z_lr: low-resolution latent, (B, C, H, W); None in the base stage.
    Returns: (B,), dtype of the student's estimate.
    """
    first, then, end = sigmas
    tau, tau_then, tau_end = (0.0, 0.0, 0.0) if taus is None else taus
    with torch.no_grad():
        z_then = relay_step(z, teacher(z, first), z_lr, first, then, tau, tau_then)
        there = then <= end
        way = torch.where(there, first, then)  # not 0, which no step leads from
        z_end = relay_step(z_then, student(z_then, way), z_lr, way, end, tau_then, tau_end)
        z_end = torch.where(there.reshape(-1, *[1] * (z.ndim - 1)), z_then, z_end)
        target = distillation_target(z, z_end, first, end, tau, tau_end, z_lr)
    return mean_square(student(z, first) - target)


def truncated_snr_weight(sigma: Tensor) -> Tensor:
    """Weight of |D - D*|^2 at a noise level (arXiv:2202.00512, section 4).

        w = max(SNR, 1) = max(1 / sigma^2, 1)

    A one-step student starts where SNR is nearly 0 and a weight of SNR would teach it nothing.
    """
    return (1 / sigma**2).clamp(min=1.0)
