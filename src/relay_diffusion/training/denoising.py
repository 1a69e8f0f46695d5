"""The base objective, and what every denoising objective is made of: draws, weights, validation.

All of them work on latents of a fixed autoencoder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from relay_diffusion.diffusion import NoiseSchedule, base_loss, min_snr_weight
from relay_diffusion.models.denoiser import Denoiser
from relay_diffusion.models.folder import STAGE_NOTE
from relay_diffusion.models.hashes import network_hash, weight_files
from relay_diffusion.models.scheduler import cascade_scheduler
from relay_diffusion.training import distributed
from relay_diffusion.training.cached import check_prepared, text_is_fixed
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch, Feed, Pictures, Source
from relay_diffusion.training.latents import context_of, prepared
from relay_diffusion.training.networks import Networks, save_half
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.objective_settings import BaseObjective
from relay_diffusion.training.preview import preview_base
from relay_diffusion.training.recipe import (
    BaseRecipe,
    DenoisingRecipe,
    Recipe,
    UpscalingRecipe,
)
from relay_diffusion.training.validation import HeldOutLoss

NUM_BANDS = 4


def base(
    recipe: BaseRecipe,
    networks: Networks,
    source: Source,
    device: torch.device,
) -> Objective:
    """Train the UNet and the text encoder; the autoencoder is fixed."""
    unet, text_encoder, tokenizer = networks.unet, networks.text_encoder, networks.tokenizer
    denoiser = denoiser_of(recipe, networks, device)
    schedule = denoiser.schedule
    stream = source("train", recipe.data.views)
    settings = recipe.objective
    freeze(networks.vae)
    check_prepared(recipe.data, recipe.model, tokenizer, text_is_fixed(recipe))

    def prepare(pictures: Pictures, draws: Draws) -> Batch:
        return prepared(networks, recipe.model.max_tokens, pictures, device)

    def sample_loss(batch: Batch, t: Tensor, eps: Tensor, keep: Tensor) -> Tensor:
        context = context_of(text_encoder, batch) * keep[:, None, None]
        denoise = denoiser(context, batch["time_ids"])
        loss = base_loss(denoise, batch["z_0"], t, eps, schedule)
        return loss * loss_weight(schedule.sigma(t), settings)

    loss, validate = loss_and_validation(
        recipe, sample_loss, schedule.num_train_steps, prepare, source, device
    )

    def preview() -> tuple[Tensor, int]:
        return preview_base(recipe, networks, denoiser, source, device)

    export_once = {"text_encoder": text_encoder} if text_is_fixed(recipe) else {}

    def export(folder: Path) -> None:
        save_half(unet, folder / "base_unet")
        if not export_once:
            save_half(text_encoder, folder / "text_encoder")
        if not distributed.is_main():
            return
        write_stage_note(folder, recipe, base_size=max(v.size for v in recipe.data.views))
        tokenizer.save_pretrained(folder / "tokenizer")
        cascade_scheduler(recipe.model.prediction_type).save_pretrained(folder / "scheduler")

    return Objective(
        trained={"unet": unet, "text_encoder": text_encoder},
        feed=Feed(stream, prepare, recipe.data, recipe.run.seed, device),
        loss=loss,
        export=export,
        validate=validate,
        preview=preview,
        levels=lambda draws: draw_t(draws, schedule.num_train_steps),
        export_once=export_once,
    )


def write_stage_note(folder: Path, recipe: DenoisingRecipe, **more: Any) -> None:
    """Say in an export what a cascade of that stage has to be (``pipelines/assemble.py``)."""
    model = recipe.model
    note = {"prediction_type": model.prediction_type, "max_tokens": model.max_tokens, **more}
    vae = model.init_from.get("vae") or model.vae
    if isinstance(vae, str) and weight_files(Path(vae)):  # whose latents it knows
        note["vae"] = _hash_once(vae)
    (folder / STAGE_NOTE).write_text(json.dumps(note) + "\n")


_hash_once = lru_cache(lambda path: network_hash(Path(path)))
"""Of a network that does not change in a run, which exports often."""


def denoiser_of(recipe: Recipe, networks: Networks, device: torch.device) -> Denoiser:
    """Its schedule is on the device of the run, so that looking a level up waits for no copy."""
    schedule = NoiseSchedule(NoiseSchedule.scaled_linear().sigmas.to(device))
    return Denoiser(networks.unet, schedule, recipe.model.prediction_type)


def loss_weight(sigma: Tensor, settings: BaseObjective) -> Tensor:
    """Weight of sigma^-2 |D - z_0|^2 at each noise level, (B,).

        w = w_0 min(1, gamma sigma^2 / w_0),    w_0 = 1 or 1 + sigma^2

    1 + sigma^2 is what a plain loss on v comes to.
    """
    weight = torch.ones_like(sigma) if settings.weighting == "epsilon" else 1 + sigma**2
    if settings.min_snr_gamma > 0:
        weight = weight * min_snr_weight(sigma / weight.sqrt(), settings.min_snr_gamma)
    return weight


def draw_t(draws: Draws, num_steps: int) -> Tensor:
    """Training indices 0 .. num_steps-1, evenly spread over the batch, (B,) int64."""
    return (draws.stratified("t") * num_steps).long()


def draw_noise(draws: Draws, z: Tensor, offset: float) -> Tensor:
    """Standard normal, plus ``offset`` times one normal per sample; the shape of ``z``."""
    eps = draws.normal("eps", *z.shape[1:])
    if offset:
        eps = eps + offset * draws.normal("offset", 1, 1, 1)
    return eps


def draw_kept(draws: Draws, dropout: float) -> Tensor:
    """1 where the text stays, 0 where it is dropped, (B,)."""
    return (draws.uniform("text_dropout") >= dropout).float()


SampleLoss = Callable[[Batch, Tensor, Tensor, Tensor], Tensor]
"""(batch, t, eps, keep) -> (B,): the loss with all that is random given."""


def loss_and_validation(
    recipe: BaseRecipe | UpscalingRecipe,
    sample_loss: SampleLoss,
    num_steps: int,
    prepare: Callable[[Pictures, Draws], Batch],
    source: Source,
    device: torch.device,
) -> tuple[Callable[[Batch, Draws], Tensor], HeldOutLoss]:
    """The training loss of a stage, everything random drawn, and its validation on fixed noise, in
    all and by quarter of the training indices.

    Args:
        num_steps: training indices of the stage, 0 .. num_steps-1.
    """
    settings = recipe.objective

    def loss(batch: Batch, draws: Draws) -> Tensor:
        t = draw_t(draws, num_steps)
        eps = draw_noise(draws, batch["z_0"], settings.offset_noise)
        return sample_loss(batch, t, eps, draw_kept(draws, settings.text_dropout))

    def validation_loss(batch: Batch, draws: Draws) -> tuple[Tensor, Tensor]:
        z = batch["z_0"]
        t, eps = draw_t(draws, num_steps), draws.normal("eps", *z.shape[1:])
        keep = torch.ones(len(z), device=z.device)
        return sample_loss(batch, t, eps, keep), t * NUM_BANDS // num_steps

    validate = HeldOutLoss(
        recipe, source, prepare, device, validation_loss, NUM_BANDS, name="loss_band"
    )
    return loss, validate


def freeze(module: nn.Module) -> None:
    module.requires_grad_(False).eval()
