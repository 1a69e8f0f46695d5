"""The distillation objective: halving the steps of a cascade's stage, round by round.

A distillation is a series of runs, one for each halving, each with its own folder and checkpoints.
The teacher of the first is the cascade's own network under classifier-free guidance, at a scale
drawn for every sample; the student is told that scale (arXiv:2210.03142), and teaches the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from relay_diffusion.diffusion import (
    Denoise,
    NoiseSchedule,
    distillation_loss,
    guided,
    relay_mean,
    truncated_snr_weight,
)
from relay_diffusion.errors import RelayError
from relay_diffusion.models.denoiser import Denoiser
from relay_diffusion.models.folder import max_tokens_of, part_folder
from relay_diffusion.models.registry import resolve
from relay_diffusion.training import distributed
from relay_diffusion.training.cached import check_prepared
from relay_diffusion.training.cascade import LENT, read_cascade
from relay_diffusion.training.denoising import freeze
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch, Feed, Pictures, Source, held_out
from relay_diffusion.training.latents import context_of, prepared
from relay_diffusion.training.networks import (
    Networks,
    build_text_encoder,
    build_unet,
    build_vae,
    load_tokenizer,
    save_half,
)
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import Model, Recipe
from relay_diffusion.training.upscaling import prepared_with_low_resolution


@dataclass(frozen=True)
class Round:
    """One halving: a student of ``num_steps`` sampling steps, trained for ``steps`` optimiser steps
    at ``lr`` (0: the recipe's)."""

    num_steps: int
    steps: int
    lr: float = 0.0


@dataclass(frozen=True)
class DistillObjective:
    """What is distilled, and how (docs/distillation.md).

    Attributes:
        teacher: cascade whose stage is distilled: a registered name, a folder or a hub id.
        stage: "base" or "relay".
        rounds: in order, each with half the steps of the one before.
        start: T_r of the relay student, which the teacher must have been trained for.
        guidance: lowest and highest scale that is drawn.
        guidance_width: of the scale's embedding in the student.
        weighting: of |D - D*|^2: "truncated_snr" is max(1 / sigma^2, 1), "snr" is 1 / sigma^2,
            "v" is 1 + 1 / sigma^2.
        through_vae: as in the relay objective.
    """

    teacher: str = "starter"
    stage: Literal["base", "relay"] = "base"
    rounds: tuple[Round, ...] = ()
    start: float = 500.0
    guidance: tuple[float, float] = (1.0, 8.0)
    guidance_width: int = 64
    weighting: Literal["truncated_snr", "snr", "v"] = "truncated_snr"
    through_vae: float = 0.5

    def __post_init__(self) -> None:
        if not self.rounds:
            raise RelayError("rounds is empty: give one at least, [[objective.rounds]]")
        for before, after in pairwise(self.rounds):
            if before.num_steps != 2 * after.num_steps:
                raise RelayError(
                    f"a round of {before.num_steps} steps is followed by one of {after.num_steps}; "
                    "each must have half the steps of the one before"
                )
        if not 0 < self.guidance[0] <= self.guidance[1]:
            raise RelayError(f"guidance is {list(self.guidance)}, must be lowest and highest scale")


@dataclass(frozen=True)
class DistillRecipe(Recipe):
    """The teacher's folder takes the place of the ``model`` table. ``model.unet`` is the student of
    the round before, in every round but the first."""

    objective: DistillObjective = DistillObjective(rounds=(Round(1, 1),))


def rounds_of(recipe: DistillRecipe) -> Iterator[DistillRecipe]:
    """One recipe for each round, in the folders NAME_16, NAME_8, ... by the student's steps."""
    before = ""
    for one in recipe.objective.rounds:
        run = replace(recipe.run, name=f"{recipe.run.name}_{one.num_steps}", steps=one.steps)
        step = replace(
            recipe,
            run=run,
            model=replace(recipe.model, unet=before),
            optimizer=replace(recipe.optimizer, lr=one.lr or recipe.optimizer.lr),
            objective=replace(recipe.objective, rounds=(one,)),
        )
        yield step
        before = str(step.folder / "export" / f"{recipe.objective.stage}_unet")


def distill(recipe: DistillRecipe, source: Source, device: torch.device) -> Objective:
    """The objective of a recipe with one round."""
    settings = recipe.objective
    torch.manual_seed(recipe.run.seed)
    folder = resolve(settings.teacher)
    index, scheduler = read_cascade(folder, "objective.teacher")
    prediction_type = scheduler.get("prediction_type", "epsilon")
    num_tokens = max_tokens_of(index)
    parts = {part: str(part_folder(folder, part)) for part in LENT}
    vae = build_vae(parts["vae"]).to(device)
    text_encoder = build_text_encoder(parts["text_encoder"], 0).to(device)
    tokenizer = load_tokenizer(parts["tokenizer"])
    path = str(recipe.model.unet) or str(part_folder(folder, f"{settings.stage}_unet"))
    teacher = build_unet(path, 0, 0).to(device)
    told = teacher.config.time_cond_proj_dim is not None
    student = _told_guidance(teacher, settings.guidance_width).to(device)
    networks = Networks(vae, text_encoder, teacher, tokenizer)
    for part in networks.modules().values():
        freeze(part)
    vae_path, text_path = str(folder / "vae"), str(folder / "text_encoder")
    model = Model(vae=vae_path, text_encoder=text_path, max_tokens=num_tokens)
    relays = settings.stage == "relay"
    check_prepared(recipe.data, model, tokenizer, fixed_text=True, low_resolution=relays)

    schedule = NoiseSchedule(NoiseSchedule.scaled_linear().sigmas.to(device))
    num_steps = settings.rounds[0].num_steps
    sigmas, taus = _levels(schedule, settings, 2 * num_steps)
    of_student = Denoiser(student, schedule, prediction_type)
    of_teacher = Denoiser(teacher, schedule, prediction_type)

    def prepare(pictures: Pictures, draws: Draws) -> Batch:
        if settings.stage == "base":
            return prepared(networks, num_tokens, pictures, device)
        share = settings.through_vae
        return prepared_with_low_resolution(networks, num_tokens, share, pictures, draws, device)

    def taught(context: Tensor, vector: Tensor, scale: Tensor) -> Denoise:
        if told:
            return of_teacher(context, vector, guidance=scale)
        both = torch.cat([torch.zeros_like(context), context])
        return guided(of_teacher(both, torch.cat([vector, vector])), scale)

    def error(batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        """(weighted loss, index of the student's step), each (B,)."""
        low, high = settings.guidance
        scale = low + (high - low) * draws.uniform("guidance")
        index = (draws.stratified("step") * num_steps).long()
        way = [2 * index + i for i in range(3)]
        levels = [sigmas[i] for i in way]
        fractions = None if taus is None else [taus[i] for i in way]
        eps = draws.normal("eps", *batch["z_0"].shape[1:])
        mean = batch["z_0"]
        if fractions is not None:
            mean = relay_mean(mean, batch["z_lr"], fractions[0])
        z = mean + levels[0][:, None, None, None] * eps
        with torch.no_grad():
            context = context_of(text_encoder, batch)
        loss = distillation_loss(
            of_student(context, batch["time_ids"], guidance=scale),
            taught(context, batch["time_ids"], scale),
            z,
            levels,
            fractions,
            batch.get("z_lr"),
        )
        return loss * _weight(levels[0], settings), index

    def validate() -> dict[str, float]:
        num, size = recipe.validation.num_pictures, recipe.data.batch_size
        losses, steps = [], []
        held = held_out(source, prepare, recipe.data.views, num, size, device)
        for number, batch in enumerate(held):
            draws = Draws.of_batch(0, "validation", number, len(batch["z_0"]), device)
            loss, index = error(batch, draws)
            losses.append(loss)
            steps.append(index)
        loss, index = torch.cat(losses), torch.cat(steps)
        figures = {"loss": float(loss.mean())}
        for i in range(num_steps):
            if bool((index == i).any()):
                figures[f"loss_step_{i}"] = float(loss[index == i].mean())
        return figures

    def export(out: Path) -> None:
        save_half(student, out / f"{settings.stage}_unet")
        if distributed.is_main():
            # What a cascade of it has to know (pipelines/assemble.py).
            told = {"num_steps": num_steps, "guidance": settings.guidance, "start": settings.start}
            (out / "distilled.json").write_text(json.dumps(told, indent=2) + "\n")

    return Objective(
        trained={"unet": student},
        feed=Feed(
            source("train", recipe.data.views), prepare, recipe.data, recipe.run.seed, device
        ),
        loss=lambda batch, draws: error(batch, draws)[0],
        export=export,
        validate=validate,
    )


def _told_guidance(teacher: Any, width: int) -> Any:
    """A copy of ``teacher`` that is told the guidance scale: by an embedding that adds nothing yet,
    if the teacher has none."""
    config = dict(teacher.config)
    if config["time_cond_proj_dim"] is None:
        config["time_cond_proj_dim"] = width
    student = UNet2DConditionModel.from_config(config)
    missing, unexpected = student.load_state_dict(teacher.state_dict(), strict=False)
    if unexpected or set(missing) - {"time_embedding.cond_proj.weight"}:
        raise RelayError(f"the teacher's weights do not fit its configuration: {missing[:3]}")
    if missing:
        torch.nn.init.zeros_(student.time_embedding.cond_proj.weight)
    return student


def _levels(
    schedule: NoiseSchedule, settings: DistillObjective, num_steps: int
) -> tuple[Tensor, Tensor | None]:
    """Noise levels and relay fractions of the teacher's run, (num_steps + 1,) each. The student's
    are every second of them."""
    if settings.stage == "base":
        return schedule.sample_sigmas(num_steps), None
    sigmas = schedule.relay_sigmas(num_steps, settings.start)
    return sigmas, torch.linspace(1, 0, num_steps + 1, device=sigmas.device)


def _weight(sigma: Tensor, settings: DistillObjective) -> Tensor:
    if settings.weighting == "truncated_snr":
        return truncated_snr_weight(sigma)
    return 1 / sigma**2 + (1.0 if settings.weighting == "v" else 0.0)
