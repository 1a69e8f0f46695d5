"""Samplers of both stages: one loop, one multistep rule.

The relay stage is ordinary diffusion of y = (z - tau z_lr) / (1 - tau) at noise level
sigma / (1 - tau). With w = (1 - tau) / sigma, which grows along the way, the ODE for a given D is

    d(z / sigma) = z_lr d(tau / sigma) + D dw

so a step is ``relay_step`` whatever the solver, and a solver only chooses the D it is given. The
base stage is tau = 0. Proof and measurements: docs/math.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from relay_diffusion.diffusion.numerics import require_shape, working_dtype
from relay_diffusion.diffusion.prediction import Denoise
from relay_diffusion.diffusion.relay import relay_start, relay_step, relay_taus

Solver = Literal["euler", "multistep"]
Callback = Callable[[int, float, Tensor, Tensor], Tensor | None]
Generators = torch.Generator | Sequence[torch.Generator] | None


def sample_base(
    denoise: Denoise,
    z: Tensor,
    sigmas: Tensor | Sequence[float],
    solver: Solver = "euler",
    eta: float = 0.0,
    generator: Generators = None,
    callback: Callback | None = None,
) -> Tensor:
    """Run the base stage down ``sigmas``.

    Euler is DDIM (arXiv:2010.02502), multistep is DPM-Solver++ 2M (arXiv:2211.01095). To start
    part-way (image to image), give a shorter list and z = z_0 + sigma_0 eps.

    Args:
        denoise: ``denoise(z, sigma)`` with sigma (B,), gives the estimate of z_0, (B, C, H, W).
        z: latents at ``sigmas[0]``, (B, C, H, W): eps * sqrt(1 + sigma_0^2) for a full run.
        sigmas: noise levels, strictly descending, the last usually 0; (num_steps + 1,).
        solver: "euler" (first order) or "multistep" (second order).
        eta: fresh noise per step, 0 (deterministic) to 1 (the DDPM step).
        generator: source of that noise; a list gives each picture its own, so that it does not
            depend on what else is in the batch.
        callback: called after each step as ``callback(step, sigma, z, denoised)``, with the noise
            level that ``denoised`` was estimated at and the latents at the next one. What it
            returns, unless None, takes the place of z.
    Returns: latents at ``sigmas[-1]``, float32 (float64 if z is), as all arithmetic is.
    Raises: ValueError for arguments outside these ranges, or a ``denoise`` or ``callback`` that
        changes the shape.
    """
    levels = _levels(sigmas)
    plan = _plan(levels, [0.0] * len(levels), solver, eta)
    return _run(denoise, z.to(working_dtype(z)), None, plan, generator, callback)


def sample_relay(
    denoise: Denoise,
    z_lr: Tensor,
    eps: Tensor,
    sigmas: Tensor | Sequence[float],
    taus: Tensor | Sequence[float] | None = None,
    solver: Solver = "euler",
    eta: float = 0.0,
    generator: Generators = None,
    callback: Callback | None = None,
) -> Tensor:
    """Run the relay stage from z = z_lr + sigma_0 eps down ``sigmas``.

    Euler is the released CogView3 sampler; multistep is second order in the same variables.

    Args:
        z_lr: latent of the upsampled low-resolution picture, (B, C, H, W).
        eps: standard normal noise, (B, C, H, W).
        sigmas: as in ``sample_base``; see ``NoiseSchedule.relay_sigmas``.
        taus: relay fraction at each noise level, in [0, 1], not ascending and below 1 from the
            second on, (num_steps + 1,); None is 1 to 0 in equal steps, as released. Those of a
            network trained with another blur schedule: ``relay_taus``.
        denoise, solver, eta, generator, callback: as in ``sample_base``.
    Returns: latents at ``sigmas[-1]``, float32 (float64 if ``z_lr`` is).
    Raises: as ``sample_base``.
    """
    levels = _levels(sigmas)
    fractions = relay_taus(len(levels) - 1) if taus is None else _fractions(taus, len(levels))
    plan = _plan(levels, fractions, solver, eta)
    z_lr = z_lr.to(working_dtype(z_lr))
    z = relay_start(z_lr, eps.to(z_lr), levels[0])
    return _run(denoise, z, z_lr, plan, generator, callback)


@dataclass(frozen=True)
class _Step:
    """Everything about one step that does not depend on the latents, as Python numbers."""

    sigma: float
    sigma_down: float  # where the deterministic part ends; noise then lifts it to the next sigma
    tau: float
    tau_next: float
    extrapolation: float  # weight of D_i - D_{i-1} on top of D_i; 0 is first order
    noise: float


def _plan(sigmas: list[float], taus: list[float], solver: Solver, eta: float) -> list[_Step]:
    """All coefficients of a run, so that the loop itself has nothing to compute or wait for."""
    if solver not in get_args(Solver):
        raise ValueError(f"solver {solver!r}; allowed is {' or '.join(get_args(Solver))}")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta {eta}; allowed is 0 (deterministic) to 1 (the DDPM step)")
    plan: list[_Step] = []
    w_before: float | None = None
    for i in range(len(sigmas) - 1):
        sigma, sigma_next, tau, tau_next = sigmas[i], sigmas[i + 1], taus[i], taus[i + 1]
        w = (1 - tau) / sigma
        # w / w', squared: the share of the next level's variance that this level already has.
        kept = (w * sigma_next / (1 - tau_next)) ** 2
        noise = eta * sigma_next * math.sqrt(1 - kept)
        sigma_down = sigma_next * math.sqrt(1 - eta**2 * (1 - kept))
        extrapolation = 0.0
        if solver == "multistep" and w_before is not None and sigma_next > 0:
            extrapolation = _extrapolation(w_before, w, (1 - tau_next) / sigma_next)
        plan.append(_Step(sigma, sigma_down, tau, tau_next, extrapolation, noise))
        w_before = w
    return plan


def _extrapolation(w_before: float, w: float, w_after: float) -> float:
    """Weight c in D_eff = D_i + c (D_i - D_{i-1}), half a step ahead of D_i.

    With lambda = log w, c = (lambda_{i+1} - lambda_i) / (2 (lambda_i - lambda_{i-1})), as in
    DPM-Solver++ 2M, with fresh noise too: D changes along the noisy path, and not along the longer
    deterministic part of a step. Right after tau = 1 (w_{i-1} = 0) lambda_{i-1} is minus infinity;
    there the same half step ahead is taken in w.
    """
    if w_before == 0:
        return (w_after - w) / (2 * w)
    return math.log(w_after / w) / (2 * math.log(w / w_before))


def _run(
    denoise: Denoise,
    z: Tensor,
    z_lr: Tensor | None,
    plan: list[_Step],
    generator: Generators,
    callback: Callback | None,
) -> Tensor:
    """The loop of both stages. ``z`` comes in the working dtype and is never written to."""
    if isinstance(generator, Sequence) and len(generator) != len(z):
        raise ValueError(f"{len(generator)} generators for {len(z)} pictures; give one for each")
    before = None
    for i, step in enumerate(plan):
        denoised = denoise(z, z.new_full((len(z),), step.sigma)).to(z.dtype)
        if denoised.shape != z.shape:
            raise ValueError(f"denoise gave {tuple(denoised.shape)} for latents {tuple(z.shape)}")
        ahead = denoised
        if before is not None and step.extrapolation:
            ahead = denoised + step.extrapolation * (denoised - before)
        before = denoised.clone()  # a denoiser may write its next result into the same memory
        z = relay_step(z, ahead, z_lr, step.sigma, step.sigma_down, step.tau, step.tau_next)
        if step.noise:
            z = z + step.noise * _noise_like(z, generator)
        if callback is not None:
            replaced = callback(i, step.sigma, z, denoised)
            if replaced is not None:
                require_shape("what callback returned", replaced, z)
                z = replaced.to(z)
    return z


def _noise_like(z: Tensor, generator: Generators) -> Tensor:
    """Standard normal noise, drawn on the generator's own device: a CPU seed serves any GPU."""
    if generator is None:
        return torch.randn_like(z)
    if isinstance(generator, torch.Generator):
        noise = torch.randn(z.shape, generator=generator, device=generator.device, dtype=z.dtype)
        return noise.to(z.device)
    return torch.stack([_noise_like(picture, g) for picture, g in zip(z, generator, strict=True)])


def _levels(sigmas: Tensor | Sequence[float]) -> list[float]:
    levels = _numbers(sigmas)
    descending = all(a > b for a, b in pairwise(levels))
    if len(levels) < 2 or not descending or not 0 <= levels[-1] <= levels[0] < math.inf:
        raise ValueError(f"sigmas must be two or more, strictly descending, 0 or above: {levels}")
    return levels


def _fractions(taus: Tensor | Sequence[float], count: int) -> list[float]:
    fractions = _numbers(taus)
    if len(fractions) != count:
        raise ValueError(f"{len(fractions)} taus for {count} sigmas; give one for each")
    falling = all(a >= b for a, b in pairwise(fractions))
    if not falling or not (fractions[0] <= 1 and fractions[1] < 1 and fractions[-1] >= 0):
        raise ValueError(
            f"taus must fall from at most 1 to at least 0, below 1 from the second on: {fractions}"
        )
    return fractions


def _numbers(values: Tensor | Sequence[float]) -> list[float]:
    """One transfer for the whole run where the values lie on a GPU."""
    if isinstance(values, Tensor) and values.ndim != 1:
        raise ValueError(f"levels of shape {tuple(values.shape)}; give one number a level")
    return [float(v) for v in (values.tolist() if isinstance(values, Tensor) else values)]
