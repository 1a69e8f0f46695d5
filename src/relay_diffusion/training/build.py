"""From a recipe to an objective that can be trained."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor

from relay_diffusion.errors import RelayError
from relay_diffusion.training.autoencoder import autoencoder
from relay_diffusion.training.denoising import base
from relay_diffusion.training.distributed import local_rank
from relay_diffusion.training.feed import Source
from relay_diffusion.training.networks import Networks, build_networks
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import (
    AutoencoderRecipe,
    BaseRecipe,
    ConcatRecipe,
    Recipe,
    RelayRecipe,
    TextRecipe,
)
from relay_diffusion.training.text import text
from relay_diffusion.training.upscaling import concat, relay


def pick_device(recipe: Recipe) -> torch.device:
    """Raises: RelayError for a device that is not there."""
    name = recipe.run.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank()}"  # 0 without torchrun
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RelayError(f"run.device is {name!r}, which is not here; try auto") from error
    return device


def networks_of(recipe: Recipe, tokenizer: Any) -> Networks:
    """Freshly initialised from the recipe's seed, or loaded, as the recipe says."""
    torch.manual_seed(recipe.run.seed)
    return build_networks(recipe.model, recipe.run.objective, tokenizer)


def objective_of(
    recipe: Recipe, networks: Networks, source: Source, device: torch.device
) -> Objective:
    """Put the networks on ``device`` and make the recipe's objective of them."""
    for module in networks.modules().values():
        module.to(device)
        if recipe.run.channels_last:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if networks.unet is not None and device.type == "cpu":
        # On two cores a step at 16x16 latents takes 0.61 s with plain matrix products and 0.69 s
        # with the fused kernel, whose backward pass is slow there.
        networks.unet.set_attn_processor(AttnProcessor())
    if isinstance(recipe, AutoencoderRecipe):
        return autoencoder(recipe, networks.vae, source, device)
    if isinstance(recipe, TextRecipe):
        return text(recipe, networks.text_encoder, networks.tokenizer, source, device)
    if isinstance(recipe, BaseRecipe):
        return base(recipe, networks, source, device)
    if isinstance(recipe, ConcatRecipe):
        return concat(recipe, networks, source, device)
    assert isinstance(recipe, RelayRecipe)
    return relay(recipe, networks, source, device)
