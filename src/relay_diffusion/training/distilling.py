"""The distillation objective: a few steps of a cascade's stage instead of many.

By halving, it is a series of runs, one for each round, each with its own folder and checkpoints.
The teacher of the first is the cascade's own network under classifier-free guidance, at a scale
drawn for every sample; the student is told that scale (arXiv:2210.03142), and teaches the next.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from relay_diffusion.models.folder import STUDENT_NOTE
from relay_diffusion.training import distributed
from relay_diffusion.training.cached import check_prepared
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch, Feed, Pictures, Source, as_in_training
from relay_diffusion.training.latents import context_of, prepared
from relay_diffusion.training.low_rank import write_rank
from relay_diffusion.training.matching import matching
from relay_diffusion.training.networks import save_half
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.preview import in_parts, side_by_side
from relay_diffusion.training.redrawing import Redrawing
from relay_diffusion.training.regression import regression
from relay_diffusion.training.round_networks import open_round
from relay_diffusion.training.rounds import DistillRecipe
from relay_diffusion.training.upscaling import prepared_with_low_resolution
from relay_diffusion.training.validation import HeldOutLoss


def distill(recipe: DistillRecipe, source: Source, device: torch.device) -> Objective:
    """The objective of a recipe with one round, as ``rounds_of`` makes them."""
    settings = recipe.objective
    torch.manual_seed(recipe.run.seed)
    opened = open_round(recipe, device)
    networks, model, schedule = opened.fixed, opened.model, opened.schedule
    text_encoder = networks.text_encoder
    relays = settings.stage == "relay"
    check_prepared(recipe.data, model, networks.tokenizer, fixed_text=True, low_resolution=relays)
    redraw = settings.redraw
    redrawing = Redrawing(redraw, model, recipe, device) if redraw else None

    def prepare(pictures: Pictures, draws: Draws) -> Batch:
        if not relays:
            return prepared(networks, model.max_tokens, pictures, device)
        share = settings.through_vae
        return prepared_with_low_resolution(
            networks, model.max_tokens, share, pictures, draws, device, redrawing
        )

    (one,) = settings.rounds
    num_steps, student, taught = one.num_steps, opened.learner("unet"), opened.taught
    if one.matches:
        critic = opened.learner("critic")
        learned, validated = matching(settings, schedule, student, critic, taught, text_encoder)
    else:
        learned = validated = regression(settings, schedule, student, taught, text_encoder)
    validate = HeldOutLoss(recipe, source, prepare, device, validated, num_steps, name="loss_step")

    def preview() -> tuple[Tensor, int]:
        low, high = settings.guidance
        view, num = recipe.data.views[0], recipe.preview.num_pictures
        with as_in_training(device):
            pictures = source("held-out", (view,)).batch(0, num)
        draws = Draws.of_batch(0, "preview", 0, num, device)
        batch = prepare(pictures, draws)
        context, vector = context_of(text_encoder, batch), batch["time_ids"]
        scale = torch.full((num,), min(max(recipe.preview.guidance, low), high), device=device)
        each = settings.teacher_steps_each
        sigmas, _ = settings.levels(schedule, each * num_steps)
        eps = draws.normal("eps", *batch["z_0"].shape[1:])

        def made(rows: slice) -> Tensor:
            given = context[rows], vector[rows]
            runs = [
                (taught(*given, scale[rows]), slice(None)),
                (student(*given, guidance=scale[rows]), slice(None, None, each)),
            ]
            z_lr = batch["z_lr"][rows] if relays else None
            return side_by_side(networks.vae, runs, eps[rows], sigmas, z_lr)

        return in_parts(recipe, num, made), 6 if relays else 8

    def export(out: Path) -> None:
        save_half(opened.learners["unet"], out / f"{settings.stage}_unet")
        if distributed.is_main():
            # What a cascade of it has to know (pipelines/assemble.py).
            made = {
                "num_steps": num_steps,
                "guidance": settings.guidance,
                "teacher": opened.first_hash,
                "prediction_type": opened.prediction_type,
            }
            if relays:
                made["start"] = settings.start
            (out / STUDENT_NOTE).write_text(json.dumps(made, indent=2) + "\n")
            if settings.rank:
                write_rank(out, settings.rank, opened.first_hash)

    return Objective(
        trained=opened.learners,
        feed=Feed(
            source("train", recipe.data.views), prepare, recipe.data, recipe.run.seed, device
        ),
        loss=lambda batch, draws: learned(batch, draws)[0],
        export=export,
        validate=validate,
        preview=preview,
        frozen={"text_encoder": text_encoder},
        own_losses=one.matches,
    )
