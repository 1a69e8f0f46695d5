"""The relay path: its mean, its starts, a deterministic step along it (base stage: tau = 0)."""

from __future__ import annotations

import math
from typing import Literal, TypeVar, get_args

from torch import Tensor

from relay_diffusion.diffusion.numerics import Scalar, per_sample, require_shape

Blur = Literal["linear", "cosine", "quadratic"]
"""Blur schedules: how the relay fraction grows with the training index, see ``relay_tau``."""

Fraction = TypeVar("Fraction", float, Tensor)


def relay_tau(u: Fraction, blur: Blur = "linear") -> Fraction:
    """The relay fraction at a part of the way to the relay start.

        linear     tau(u) = u                         CogView3 (arXiv:2403.05121), as released
        cosine     tau(u) = (1 - cos(pi u)) / 2       slow at both ends
        quadratic  tau(u) = u^2                       the blur is gone early in a run

    The last two are this project's. All rise from tau(0) = 0 to tau(1) = 1, so that w = (1 - tau) /
    sigma grows along a run, which is all that the samplers need (docs/math.md).

    Args:
        u: t / T_r in training, 1 - i / P at step i of P in sampling; in [0, 1], any shape.
    Returns: tau, in [0, 1], shape and dtype of ``u``.
    Raises: ValueError for a schedule that is none.
    """
    if blur == "linear":
        return u
    if blur == "quadratic":
        return u * u
    if blur == "cosine":
        cosine = (u * math.pi).cos() if isinstance(u, Tensor) else math.cos(u * math.pi)
        return (1 - cosine) / 2
    raise ValueError(f"blur {blur!r}; allowed is {' or '.join(get_args(Blur))}")


def relay_taus(num_steps: int, blur: Blur = "linear") -> list[float]:
    """Relay fractions of a run of equal steps from the relay start, 1 to 0, ``num_steps`` + 1.

    They belong to ``NoiseSchedule.relay_sigmas(num_steps, T_r)`` of a network that was trained with
    this ``blur`` and T_r.

    Raises: ValueError for less than one step.
    """
    if num_steps < 1:
        raise ValueError(f"{num_steps} steps; give 1 or more")
    return [relay_tau(1 - i / num_steps, blur) for i in range(num_steps + 1)]


def relay_mean(z_0: Tensor, z_lr: Tensor, tau: Scalar) -> Tensor:
    """Mean of the relay path: the clean latent fades linearly into the low-resolution one.

        m(tau) = (1 - tau) z_0 + tau z_lr

    CogView3 (arXiv:2403.05121), section 3.2. Takes ``tau``, not a step index, so that training
    (1000 indices) and sampling (a few steps) cannot count differently.

    Args:
        z_0: clean high-resolution latent, (B, C, H, W).
        z_lr: latent of the upsampled low-resolution image, (B, C, H, W).
        tau: relay fraction in [0, 1], (B,) or a number; 0 is clean, 1 is the relay start.
    Returns: (B, C, H, W). Raises: ValueError if the shapes differ.
    """
    require_shape("z_lr", z_lr, z_0)
    tau = per_sample(tau, z_0)
    return (1 - tau) * z_0 + tau * z_lr


def base_start(eps: Tensor, sigma: float) -> Tensor:
    """Where a base run starts: noise alone, of the variance that noised unit latents have there.

        z = sqrt(1 + sigma^2) eps

    Args:
        eps: standard normal noise, (B, C, H, W).
        sigma: highest noise level.
    Returns: (B, C, H, W), dtype of ``eps``.
    """
    return eps * float((1 + sigma**2) ** 0.5)


def relay_start(z_lr: Tensor, eps: Tensor, sigma: Scalar) -> Tensor:
    """Where a relay run starts: the low-resolution latent with noise on it (tau = 1).

        z = z_lr + sigma eps

    Args:
        z_lr: latent of the upsampled low-resolution image, (B, C, H, W).
        eps: standard normal noise, (B, C, H, W).
        sigma: noise level of the relay start, (B,) or a number.
    Returns: (B, C, H, W). Raises: ValueError if the shapes differ.
    """
    require_shape("eps", eps, z_lr)
    return z_lr + per_sample(sigma, z_lr) * eps


def relay_step(
    z: Tensor,
    denoised: Tensor,
    z_lr: Tensor | None,
    sigma: Scalar,
    sigma_next: Scalar,
    tau: Scalar,
    tau_next: Scalar,
) -> Tensor:
    """One deterministic step from (sigma, tau) to (sigma', tau') for a given estimate D of z_0.

        z' = r z + [(1 - tau') - r (1 - tau)] D + [tau' - r tau] z_lr,    r = sigma' / sigma

    It is eps = (z - (1 - tau) D - tau z_lr) / sigma put back at (sigma', tau'). With
    tau = tau' = 0 it is the Euler (DDIM, arXiv:2010.02502) step of the base stage.

    The mean is rebuilt from ``z_lr`` and the newest D, as the released CogView3 sampler does;
    Algorithm 1 of the paper carries it from step to step, which agrees only while D is constant.

    Args:
        z: latents at (sigma, tau), (B, C, H, W).
        denoised: D, (B, C, H, W).
        z_lr: low-resolution latent, (B, C, H, W); None where tau = tau' = 0 (the base stage).
        sigma, sigma_next: noise levels, (B,) or numbers; sigma > 0, sigma_next >= 0.
        tau, tau_next: relay fractions in [0, 1], (B,) or numbers.
    Returns: (B, C, H, W).
    Raises: ValueError if ``z_lr`` is None and tau or tau_next is not the number 0, if shapes
        differ, or for noise levels that are numbers outside their range.
    """
    require_shape("denoised", denoised, z)
    on_z, on_denoised, on_z_lr = step_coefficients(sigma, sigma_next, tau, tau_next)
    stepped = per_sample(on_z, z) * z + per_sample(on_denoised, z) * denoised
    if z_lr is None:
        require_base_stage(tau, tau_next)
        return stepped
    require_shape("z_lr", z_lr, z)
    return stepped + per_sample(on_z_lr, z) * z_lr


def step_coefficients(
    sigma: Scalar, sigma_next: Scalar, tau: Scalar, tau_next: Scalar
) -> tuple[Scalar, Scalar, Scalar]:
    """The factors of z, D and z_lr in ``relay_step``; the three sum to 1.

    Raises: ValueError for a level that no step leads from, or to. It is looked for in numbers only:
        to read a tensor would make a GPU wait.
    """
    if not isinstance(sigma, Tensor) and not sigma > 0:
        raise ValueError(f"sigma {sigma}; a step leads from a noise level above 0")
    if not isinstance(sigma_next, Tensor) and not sigma_next >= 0:
        raise ValueError(f"sigma_next {sigma_next}; a step leads to a noise level of 0 or more")
    ratio = sigma_next / sigma
    return ratio, (1 - tau_next) - ratio * (1 - tau), tau_next - ratio * tau


def require_base_stage(tau: Scalar, tau_next: Scalar) -> None:
    """Raise ValueError unless both are the number 0, the one case that needs no z_lr."""
    if isinstance(tau, Tensor) or isinstance(tau_next, Tensor) or tau != 0 or tau_next != 0:
        raise ValueError("z_lr is missing: only the base stage (tau = tau_next = 0) goes without")
