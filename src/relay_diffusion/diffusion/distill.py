"""Progressive distillation (arXiv:2202.00512): what a student must say to do two steps in one."""

from __future__ import annotations

from torch import Tensor

from relay_diffusion.diffusion.numerics import Scalar, per_sample
from relay_diffusion.diffusion.relay import require_base_stage, step_coefficients


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
    Returns: D*, (B, C, H, W), dtype of ``z``.
    Raises: ValueError if ``z_lr`` is None and tau or tau_after is not the number 0.
    """
    on_z, on_denoised, on_z_lr = step_coefficients(sigma, sigma_after, tau, tau_after)
    remainder = z_after - per_sample(on_z, z) * z
    if z_lr is None:
        require_base_stage(tau, tau_after)
    else:
        remainder = remainder - per_sample(on_z_lr, z) * z_lr
    return remainder / per_sample(on_denoised, z)
