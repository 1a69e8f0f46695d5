"""The objectives of stages that double a picture: the relay, and what it is compared with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from relay_diffusion.diffusion import base_loss, relay_loss
from relay_diffusion.models.denoiser import Denoiser
from relay_diffusion.models.folder import RELAY_NOTE
from relay_diffusion.training.cached import check_prepared
from relay_diffusion.training.denoising import (
    SampleLoss,
    denoiser_of,
    draw_t,
    freeze,
    loss_and_validation,
    loss_weight,
    write_stage_note,
)
from relay_diffusion.training.distributed import is_main
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch, Feed, Pictures, Source
from relay_diffusion.training.latents import context_of, low_resolution_latents, prepared
from relay_diffusion.training.networks import Networks, save_half
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.preview import preview_upscaling
from relay_diffusion.training.recipe import ConcatRecipe, RelayRecipe, UpscalingRecipe
from relay_diffusion.training.redrawing import Redrawing


def relay(
    recipe: RelayRecipe,
    networks: Networks,
    source: Source,
    device: torch.device,
) -> Objective:
    """Train the UNet as the relay stage; the other networks are fixed."""
    settings = recipe.objective
    denoiser = denoiser_of(recipe, networks, device)
    num_steps = settings.num_relay_train_steps

    def sample_loss(batch: Batch, t: Tensor, eps: Tensor, keep: Tensor) -> Tensor:
        schedule = denoiser.schedule
        context = context_of(networks.text_encoder, batch) * keep[:, None, None]
        denoise = denoiser(context, batch["time_ids"])
        z_0, z_lr = batch["z_0"], batch["z_lr"]
        loss = relay_loss(denoise, z_0, z_lr, t, eps, schedule, num_steps, settings.blur)
        return loss * loss_weight(schedule.sigma(t), settings)

    objective = _upscaling(recipe, networks, denoiser, source, device, sample_loss, num_steps)

    def export(folder: Path) -> None:
        objective.export(folder)
        if is_main():
            # What a cascade of it has to know (cli/assemble.py).
            note = {"relay_blur": settings.blur, "relay_start": [settings.num_relay_train_steps]}
            (folder / RELAY_NOTE).write_text(json.dumps(note) + "\n")

    return replace(objective, export=export)


def concat(
    recipe: ConcatRecipe,
    networks: Networks,
    source: Source,
    device: torch.device,
) -> Objective:
    """Train the UNet to draw the larger picture from noise, z_lr beside its noised latents."""
    denoiser = denoiser_of(recipe, networks, device)

    def sample_loss(batch: Batch, t: Tensor, eps: Tensor, keep: Tensor) -> Tensor:
        schedule = denoiser.schedule
        context = context_of(networks.text_encoder, batch) * keep[:, None, None]
        denoise = denoiser(context, batch["time_ids"], beside=batch["z_lr"])
        loss = base_loss(denoise, batch["z_0"], t, eps, schedule)
        return loss * loss_weight(schedule.sigma(t), recipe.objective)

    num_steps = denoiser.schedule.num_train_steps
    return _upscaling(recipe, networks, denoiser, source, device, sample_loss, num_steps)


def _upscaling(
    recipe: UpscalingRecipe,
    networks: Networks,
    denoiser: Denoiser,
    source: Source,
    device: torch.device,
    sample_loss: SampleLoss,
    num_steps: int,
) -> Objective:
    freeze(networks.vae)
    freeze(networks.text_encoder)
    tokenizer = networks.tokenizer
    check_prepared(recipe.data, recipe.model, tokenizer, fixed_text=True, low_resolution=True)

    settings = recipe.objective
    redraw = settings.redraw
    redrawing = Redrawing(redraw, recipe.model, recipe, device) if redraw else None

    def prepare(pictures: Pictures, draws: Draws) -> Batch:
        share, max_tokens = settings.through_vae, recipe.model.max_tokens
        return prepared_with_low_resolution(
            networks, max_tokens, share, pictures, draws, device, redrawing
        )

    loss, validate = loss_and_validation(recipe, sample_loss, num_steps, prepare, source, device)
    stream = source("train", recipe.data.views)

    def preview() -> tuple[Tensor, int]:
        return preview_upscaling(recipe, networks, denoiser, source, device)

    def export(folder: Path) -> None:
        save_half(denoiser.unet, folder / "relay_unet")
        if is_main():
            write_stage_note(folder, recipe)

    return Objective(
        trained={"unet": denoiser.unet},
        feed=Feed(stream, prepare, recipe.data, recipe.run.seed, device),
        loss=loss,
        export=export,
        validate=validate,
        preview=preview,
        levels=lambda draws: draw_t(draws, num_steps),
        frozen={"text_encoder": networks.text_encoder},
    )


def prepared_with_low_resolution(
    networks: Networks,
    max_tokens: int,
    through_vae: float,
    pictures: Pictures,
    draws: Draws,
    device: torch.device,
    redrawing: Redrawing | None = None,
) -> Batch:
    """As ``prepared``, and z_lr; ``through_vae`` is the share that passes the autoencoder, some of
    which ``redrawing`` redraws there, and others that would not have passed, too."""
    batch = prepared(networks, max_tokens, pictures, device)
    passes = draws.uniform("through_vae") < through_vae
    redrawn = None
    if redrawing is not None:
        chosen = redrawing.chosen(pictures, draws)
        passes |= chosen
        context = context_of(networks.text_encoder, batch)
        redrawn = redrawing.redrawn_where(chosen, context, draws)
    z_lr = low_resolution_latents(networks, pictures, passes, device, redrawn)
    return {**batch, "z_lr": z_lr}
