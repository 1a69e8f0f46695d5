"""Distribution matching: a student whose pictures are as likely as its teacher's, whatever noise
they came from (arXiv:2311.18828)."""

from __future__ import annotations

import torch
from torch import Tensor

from relay_diffusion.diffusion.numerics import Scalar, mean_square, per_sample
from relay_diffusion.diffusion.prediction import Denoise
from relay_diffusion.diffusion.relay import relay_mean, require_base_stage


def matching_loss(
    estimate: Tensor,
    critic: Denoise,
    teacher: Denoise,
    eps: Tensor,
    sigma: Tensor,
    tau: Scalar = 0.0,
    z_lr: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One sample's part of the divergence between the student's estimates and the teacher's
    pictures, both noised, and the loss of the critic that knows the student's.

        z = (1 - tau) x + tau z_lr + sigma eps
        direction = [D_critic(z) - D_teacher(z)] / mean |x - D_teacher(z)|
        loss of the student = mean (x - stop(x - direction))^2 / 2
        loss of the critic = mean (D_critic(z) - stop(x))^2

    over C, H, W; x is the student's estimate. Two denoisers of noised pictures differ by sigma^2
    times the difference of the scores of their distributions, so the direction is that in which
    the divergence falls; its scale follows arXiv:2311.18828, eq. 8. A critic that has learned
    its task is the denoiser of what the student makes, and where that is distributed as the
    teacher's pictures are, the direction vanishes. One evaluation of the critic serves both.

    Args:
        estimate: x, with its gradient, (B, C, H, W).
        critic: a denoiser that learns.
        teacher: a denoiser that does not, usually under guidance.
        eps: standard normal noise, (B, C, H, W).
        sigma: levels at which the two are compared, (B,), above 0.
        tau: relay fractions there, (B,), below 1; 0 in the base stage.
        z_lr: low-resolution latent, (B, C, H, W); None in the base stage.
    Returns: the two losses, each (B,).
    Raises: ValueError if ``z_lr`` is None and tau is not the number 0.
    """
    if z_lr is None:
        require_base_stage(tau, 0.0)
    x = estimate.detach()
    mean = x if z_lr is None else relay_mean(x, z_lr, tau)
    z = mean + per_sample(sigma, x) * eps
    known = critic(z, sigma)
    with torch.no_grad():
        wanted = teacher(z, sigma)
        scale = (x - wanted).abs().mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        goal = x - (known - wanted) / scale.clamp(min=1e-4)
    return mean_square(estimate - goal) / 2, mean_square(known - x)
