"""Sample grids of a run, from the samplers directly: training knows no pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from relay_diffusion.data.prepare.stream import PreparedBatch
from relay_diffusion.data.view import View
from relay_diffusion.diffusion import (
    Denoise,
    base_start,
    guided,
    relay_taus,
    sample_base,
    sample_relay,
)
from relay_diffusion.models.autoencoder import decode, encode
from relay_diffusion.models.denoiser import Denoiser
from relay_diffusion.models.low_resolution import low_resolution
from relay_diffusion.models.text import encode_text, tokenize
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Source, as_in_training
from relay_diffusion.training.latents import clean_latents, low_resolution_latents
from relay_diffusion.training.networks import Networks
from relay_diffusion.training.recipe import BaseRecipe, Recipe, RelayRecipe, UpscalingRecipe
from relay_diffusion.training.validation import samples_at_once


def preview_base(
    recipe: BaseRecipe,
    networks: Networks,
    denoiser: Denoiser,
    source: Source,
    device: torch.device,
) -> tuple[Tensor, int]:
    """Pictures for the recipe's prompts, or for held-out captions; fixed noise, 8 in a row."""
    prompts = list(recipe.preview.prompts)
    num = len(prompts) or recipe.preview.num_pictures
    with as_in_training(device):
        held = source("held-out", recipe.data.views[:1]).batch(0, num)
    prompts = prompts or list(held.captions)
    time_ids = held.time_ids.to(device)
    shape = clean_latents(networks, held, device).shape[1:]
    eps = Draws.of_batch(0, "preview", 0, num, device).normal("eps", *shape)
    sigmas = denoiser.schedule.sample_sigmas(recipe.preview.num_steps)

    def made(rows: slice) -> Tensor:
        denoise = _guided(networks, denoiser, prompts[rows], time_ids[rows], recipe)
        z = sample_base(denoise, base_start(eps[rows], sigmas[0].item()), sigmas)
        return decode(networks.vae, z).clamp(-1, 1)

    return in_parts(recipe, num, made), 8


def preview_upscaling(
    recipe: UpscalingRecipe,
    networks: Networks,
    denoiser: Denoiser,
    source: Source,
    device: torch.device,
) -> tuple[Tensor, int]:
    """Held-out pictures in threes: the low-resolution one enlarged, the stage's, the truth."""
    side = recipe.data.views[0].side
    with as_in_training(device):
        held = source("held-out", (View(side),)).batch(0, recipe.preview.num_pictures)
    all_through = torch.ones(len(held.captions), dtype=torch.bool, device=device)
    if isinstance(held, PreparedBatch):
        z_lr = low_resolution_latents(networks, held, all_through, device)
        x_lr, x = (decode(networks.vae, z) for z in (z_lr, clean_latents(networks, held, device)))
    else:
        x = held.x.to(device)
        x_lr = low_resolution(networks.vae, x, all_through)
        z_lr = encode(networks.vae, x_lr)
    eps = Draws.of_batch(0, "preview", 0, len(z_lr), device).normal("eps", *z_lr.shape[1:])
    time_ids, captions = held.time_ids.to(device), list(held.captions)
    schedule, num_steps = denoiser.schedule, recipe.preview.num_steps

    def made(rows: slice) -> Tensor:
        beside = None if isinstance(recipe, RelayRecipe) else z_lr[rows]
        denoise = _guided(networks, denoiser, captions[rows], time_ids[rows], recipe, beside)
        if isinstance(recipe, RelayRecipe):
            start = recipe.objective.num_relay_train_steps
            sigmas = schedule.relay_sigmas(min(num_steps, start), start)
            taus = relay_taus(len(sigmas) - 1, recipe.objective.blur)
            z = sample_relay(denoise, z_lr[rows], eps[rows], sigmas, taus)
        else:
            sigmas = schedule.sample_sigmas(num_steps)
            z = sample_base(denoise, base_start(eps[rows], sigmas[0].item()), sigmas)
        return decode(networks.vae, z).clamp(-1, 1)

    pictures = torch.stack([x_lr, in_parts(recipe, len(captions), made), x], 1)
    return pictures.flatten(0, 1).clamp(-1, 1), 6


def in_parts(recipe: Recipe, num: int, made: Callable[[slice], Tensor]) -> Tensor:
    """``made`` of so many pictures, as many at a time as pass through the networks in training."""
    size = samples_at_once(recipe)
    return torch.cat([made(slice(first, first + size)) for first in range(0, num, size)])


def side_by_side(
    vae: Any,
    runs: Sequence[tuple[Denoise, slice]],
    eps: Tensor,
    sigmas: Tensor,
    z_lr: Tensor | None = None,
) -> Tensor:
    """What several denoisers make of the same noise, one after the other for each picture; before
    them, for the relay, the low-resolution one.

    Args:
        runs: each with the levels that it goes by, as a slice of ``sigmas``.
    """
    made = [] if z_lr is None else [z_lr]
    for denoise, levels in runs:
        if z_lr is None:
            z = base_start(eps, sigmas[0].item())
            made.append(sample_base(denoise, z, sigmas[levels]))
        else:
            made.append(sample_relay(denoise, z_lr, eps, sigmas[levels]))
    return torch.stack([decode(vae, z).clamp(-1, 1) for z in made], 1).flatten(0, 1)


def _guided(
    networks: Networks,
    denoiser: Denoiser,
    prompts: list[str],
    time_ids: Tensor,
    recipe: BaseRecipe | UpscalingRecipe,
    beside: Tensor | None = None,
) -> Denoise:
    input_ids = tokenize(networks.tokenizer, prompts, recipe.model.max_tokens)
    context = encode_text(networks.text_encoder, input_ids.to(time_ids.device))
    both = torch.cat([torch.zeros_like(context), context])
    twice = None if beside is None else torch.cat([beside, beside])
    pair = denoiser(both, torch.cat([time_ids, time_ids]), beside=twice)
    return guided(pair, recipe.preview.guidance)
