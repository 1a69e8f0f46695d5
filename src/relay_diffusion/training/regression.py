"""A round of distillation whose student learns the steps of its teacher: one for two of them, by
halving, or one for all that lie on its way, to be consistent (``diffusion/distill.py``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from relay_diffusion.diffusion import (
    NoiseSchedule,
    consistency_loss,
    distillation_loss,
    relay_mean,
)
from relay_diffusion.models.denoiser import Denoiser
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch
from relay_diffusion.training.latents import context_of
from relay_diffusion.training.rounds import DistillObjective, Error, Taught


def regression(
    settings: DistillObjective,
    schedule: NoiseSchedule,
    student: Denoiser,
    taught: Taught,
    text_encoder: Any,
) -> Error:
    """What is learned from and validated.

    Args:
        settings: with one round.
        taught: the teacher, or the student of the round before.
    """
    by_halving = settings.method == "halving"
    num_steps, each = settings.rounds[0].num_steps, settings.teacher_steps_each
    sigmas, taus = settings.levels(schedule, each * num_steps)
    loss_of = distillation_loss if by_halving else consistency_loss

    def error(batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        scale = settings.drawn_guidance(draws)
        # Where a step of the student starts; to be consistent, also anywhere within one.
        apart = each if by_halving else 1
        start = (draws.stratified("step") * (each * num_steps // apart)).long() * apart
        index = start // each
        way = [start, start + 1, (index + 1) * each]
        levels = [sigmas[i] for i in way]
        fractions = None if taus is None else [taus[i] for i in way]
        eps = draws.normal("eps", *batch["z_0"].shape[1:])
        mean = batch["z_0"]
        if fractions is not None:
            mean = relay_mean(mean, batch["z_lr"], fractions[0])
        z = mean + levels[0][:, None, None, None] * eps
        with torch.no_grad():
            context = context_of(text_encoder, batch)
        loss = loss_of(
            student(context, batch["time_ids"], guidance=scale),
            taught(context, batch["time_ids"], scale),
            z,
            levels,
            fractions,
            batch.get("z_lr"),
        )
        return loss * settings.weight(levels[0]), index

    return error
