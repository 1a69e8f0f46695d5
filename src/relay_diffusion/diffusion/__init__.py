"""The mathematics of relay diffusion: pure functions on tensors, importing nothing but torch.

docs/math.md derives what is here, docs/distillation.md the loss of matching.
"""

from relay_diffusion.diffusion.distill import (
    consistency_loss,
    distillation_loss,
    distillation_target,
    truncated_snr_weight,
)
from relay_diffusion.diffusion.guidance import guide, guided
from relay_diffusion.diffusion.losses import base_loss, min_snr_weight, relay_loss
from relay_diffusion.diffusion.matching import matching_loss
from relay_diffusion.diffusion.prediction import Denoise, eps_to_denoised, v_to_denoised
from relay_diffusion.diffusion.relay import (
    Blur,
    base_start,
    relay_mean,
    relay_start,
    relay_step,
    relay_tau,
    relay_taus,
)
from relay_diffusion.diffusion.samplers import Callback, Solver, sample_base, sample_relay
from relay_diffusion.diffusion.schedule import NoiseSchedule

__all__ = [
    "Blur",
    "Callback",
    "Denoise",
    "NoiseSchedule",
    "Solver",
    "base_loss",
    "base_start",
    "consistency_loss",
    "distillation_loss",
    "distillation_target",
    "eps_to_denoised",
    "guide",
    "guided",
    "matching_loss",
    "min_snr_weight",
    "relay_loss",
    "relay_mean",
    "relay_start",
    "relay_step",
    "relay_tau",
    "relay_taus",
    "sample_base",
    "sample_relay",
    "truncated_snr_weight",
    "v_to_denoised",
]
