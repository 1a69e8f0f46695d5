"""A round of distillation whose student is matched to its teacher's distribution
(``diffusion/matching.py``), instead of learning its steps.

Student and critic learn side by side, each by its own loss and at its own rate. The student is met
where it will be used: on the way of its own run (arXiv:2405.14867, section 4.5).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from relay_diffusion.diffusion import (
    NoiseSchedule,
    base_start,
    matching_loss,
    relay_start,
    relay_step,
)
from relay_diffusion.models.denoiser import Denoiser
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch
from relay_diffusion.training.latents import context_of
from relay_diffusion.training.rounds import NUM_TRAIN_STEPS, DistillObjective, Error, Taught


def matching(
    settings: DistillObjective,
    schedule: NoiseSchedule,
    student: Denoiser,
    critic: Denoiser,
    taught: Taught,
    text_encoder: Any,
) -> tuple[Error, Error]:
    """What is learned from, the losses of both; and what is validated, that of the student alone.

    Of a batch, captions and low-resolution latents are used, the pictures themselves are not.

    Args:
        settings: with one round.
        taught: the teacher.
    """
    num_steps = settings.rounds[0].num_steps
    sigmas, taus = settings.levels(schedule, num_steps)
    # Where the two are compared: any level that there is, but the first, whose noise hides all.
    finest = int(settings.start) if settings.stage == "relay" else NUM_TRAIN_STEPS
    all_sigmas, all_taus = settings.levels(schedule, finest)

    def on_the_way(
        vector: Tensor, context: Tensor, scale: Tensor, index: Tensor, eps: Tensor, z_lr: Any
    ) -> Tensor:
        """Where each sample's step ``index`` starts, by the student's own steps up to there."""
        z = base_start(eps, float(sigmas[0])) if taus is None else relay_start(z_lr, eps, sigmas[0])
        for i in range(num_steps - 1):
            going = index > i
            rows = going.nonzero()[:, 0]
            if not len(rows):  # sharded networks are gathered by all processes at once
                rows = rows.new_zeros(1)
            denoise = student(context[rows], vector[rows], guidance=scale[rows])
            stepped = relay_step(
                z[rows],
                denoise(z[rows], sigmas[i].expand(len(rows))),
                None if taus is None else z_lr[rows],
                sigmas[i],
                sigmas[i + 1],
                *((0.0, 0.0) if taus is None else (taus[i], taus[i + 1])),
            )
            z[rows] = torch.where(going[rows, None, None, None], stepped, z[rows])
        return z

    def losses(batch: Batch, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """The student's, the critic's, and the index of the student's step, each (B,)."""
        scale = settings.drawn_guidance(draws)
        index = (draws.stratified("step") * num_steps).long()
        level = 1 + (draws.uniform("level") * (finest - 1)).long()
        vector, z_lr, shape = batch["time_ids"], batch.get("z_lr"), batch["z_0"].shape[1:]
        with torch.no_grad():
            context = context_of(text_encoder, batch)
            z = on_the_way(vector, context, scale, index, draws.normal("eps", *shape), z_lr)
        of_student, of_critic = matching_loss(
            student(context, vector, guidance=scale)(z, sigmas[index]),
            critic(context, vector, guidance=scale),
            taught(context, vector, scale),
            draws.normal("noise", *shape),
            all_sigmas[level],
            0.0 if all_taus is None else all_taus[level],
            z_lr,
        )
        return of_student, of_critic * settings.weight(all_sigmas[level]), index

    def learned(batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        of_student, of_critic, index = losses(batch, draws)
        return of_student + of_critic, index

    def validated(batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        of_student, _, index = losses(batch, draws)
        return of_student, index

    return learned, validated
