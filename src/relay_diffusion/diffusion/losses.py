"""Training losses of the base and the relay stage, one number per sample.

Both are plain noise prediction written in D: with D = z_t - sigma eps_pred and tau = 0 the loss is
the mean of (eps_pred - eps)^2. Offset noise, guidance dropout and the draw of t are the caller's.
"""

from __future__ import annotations

from torch import Tensor

from relay_diffusion.diffusion.numerics import mean_square, per_sample, require_shape, working_dtype
from relay_diffusion.diffusion.prediction import Denoise
from relay_diffusion.diffusion.relay import Blur, relay_mean, relay_tau
from relay_diffusion.diffusion.schedule import NoiseSchedule


def base_loss(
    denoise: Denoise, z_0: Tensor, t: Tensor, eps: Tensor, schedule: NoiseSchedule
) -> Tensor:
    """Denoising loss of the base stage.

        z_t = z_0 + sigma_t eps
        loss = mean over C, H, W of (D(z_t, sigma_t) - z_0)^2 / sigma_t^2

    Args:
        denoise: the network as an estimate of z_0; gets z_t and sigma (B,).
        z_0: clean latents, (B, C, H, W), scaled.
        t: training index, (B,) int64, 0..num_train_steps-1.
        eps: noise, (B, C, H, W); standard normal, plus offset noise where the recipe wants it.
        schedule: the cascade's noise schedule.
    Returns: (B,), float32 (float64 for float64 latents).
    Raises: ValueError for shapes that do not belong together, or an index outside the schedule (see
        ``NoiseSchedule.sigma``).
    """
    z_0 = z_0.to(working_dtype(z_0))
    return _loss(denoise, z_0, z_0, schedule.sigma(t), eps)


def relay_loss(
    denoise: Denoise,
    z_0: Tensor,
    z_lr: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: NoiseSchedule,
    num_relay_train_steps: int = 500,
    blur: Blur = "linear",
) -> Tensor:
    """Denoising loss of the relay stage (CogView3, arXiv:2403.05121, section 3.2).

        z_t = (1 - tau) z_0 + tau z_lr + sigma_t eps,    tau = tau(t / num_relay_train_steps)
        loss = mean over C, H, W of (D(z_t, sigma_t) - z_0)^2 / sigma_t^2

    so the network, still asked for z_0, also learns to undo the low resolution: for noise
    prediction its target is eps + tau (z_lr - z_0) / sigma_t.

    Args:
        denoise, z_0, eps, schedule: as in ``base_loss``. CogView3's eps has 0.05 of offset noise.
        z_lr: latents of the low-resolution images after upsampling in pixel space, (B, C, H, W).
        t: training index, (B,) int64, 0..num_relay_train_steps-1.
        num_relay_train_steps: T_r, the index at which tau would reach 1.
        blur: the schedule tau(u), see ``relay_tau``; linear is CogView3's.
    Returns: (B,), float32 (float64 for float64 latents).
    Raises: ValueError as ``base_loss``, and for an index at or above ``num_relay_train_steps``
        (looked for on the CPU only).
    """
    sigma = schedule.sigma(t)
    if t.device.type == "cpu" and t.numel() and int(t.max()) >= num_relay_train_steps:
        raise ValueError(
            f"training index {int(t.max())} in a relay stage of {num_relay_train_steps} steps; "
            f"draw t from 0 to {num_relay_train_steps - 1}"
        )
    z_0 = z_0.to(working_dtype(z_0))
    tau = relay_tau(t.to(z_0.dtype) / num_relay_train_steps, blur)
    mean = relay_mean(z_0, z_lr.to(z_0.dtype), tau)
    return _loss(denoise, z_0, mean, sigma, eps)


def min_snr_weight(sigma: Tensor, gamma: float = 5.0) -> Tensor:
    """Min-SNR weighting (arXiv:2303.09556) as a factor of the losses above.

        min(SNR, gamma) / SNR = min(1, gamma sigma^2),    SNR = 1 / sigma^2

    Args:
        sigma: noise level, (B,).
        gamma: largest weight of |D - z_0|^2, above 0; the paper uses 5.
    Returns: (B,), in (0, 1]. Raises: ValueError for a gamma outside its range.
    """
    if not gamma > 0:
        raise ValueError(f"gamma {gamma}; give a number above 0")
    return (gamma * sigma**2).clamp(max=1.0)


def _loss(denoise: Denoise, z_0: Tensor, mean: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    sigma = sigma.to(z_0.dtype)
    if sigma.shape != z_0.shape[:1]:
        raise ValueError(f"t has shape {tuple(sigma.shape)}; give ({len(z_0)},)")
    require_shape("eps", eps, z_0)
    denoised = denoise(mean + per_sample(sigma, z_0) * eps, sigma)
    if denoised.shape != z_0.shape:
        raise ValueError(f"denoise gave {tuple(denoised.shape)} for latents {tuple(z_0.shape)}")
    error = (denoised.to(z_0.dtype) - z_0) / per_sample(sigma, z_0)
    return mean_square(error)
