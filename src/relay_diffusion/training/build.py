"""From a recipe to an objective that can be trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from relay_diffusion.errors import RelayError
from relay_diffusion.models.hashes import network_hash
from relay_diffusion.models.lora import write_adapter
from relay_diffusion.training import distributed
from relay_diffusion.training.autoencoder import autoencoder
from relay_diffusion.training.cascade import STAGES
from relay_diffusion.training.denoising import base, freeze
from relay_diffusion.training.feed import Source
from relay_diffusion.training.lora import add_adapter
from relay_diffusion.training.low_rank import constrain, write_rank
from relay_diffusion.training.networks import Networks, build_networks, place
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import (
    AutoencoderRecipe,
    BaseRecipe,
    ConcatRecipe,
    DenoisingRecipe,
    Model,
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
        name = f"cuda:{distributed.local_rank()}"  # 0 without torchrun
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RelayError(f"run.device is {name!r}, which is not here; try auto") from error
    return device


def networks_of(recipe: Recipe, tokenizer: Any) -> Networks:
    """Freshly initialised from the recipe's seed, or loaded, as the recipe says.

    With ``lora``, those that do not learn are kept in the precision that the run computes in.
    """
    torch.manual_seed(recipe.run.seed)
    lora = recipe.lora if isinstance(recipe, DenoisingRecipe) else None
    # An adapter would not learn to read what its network has never read.
    networks = build_networks(recipe.model, recipe.run.objective, tokenizer, widen=not lora)
    begins = isinstance(recipe.model.unet, str) or "unet" in recipe.model.init_from
    if (lora or recipe.model.rank) and not begins:
        raise RelayError(
            f"{'lora' if lora else 'model.rank'} is for a network that has been trained: "
            'name its cascade in model.cascade, such as "starter"'
        )
    if recipe.model.rank:
        constrain(networks.unet, networks.unet.state_dict(), recipe.model.rank)
    if lora:
        # Several processes shard weights of one precision only.
        half = recipe.run.dtype == "bfloat16" and distributed.world_size() == 1
        dtype = torch.bfloat16 if half else torch.float32
        for module in (networks.unet, networks.text_encoder):
            nn.Module.to(module, dtype)  # diffusers' own warns of nothing
            freeze(module)
        add_adapter(networks.unet, lora)
    return networks


def objective_of(
    recipe: Recipe, networks: Networks, source: Source, device: torch.device
) -> Objective:
    """Put the networks on ``device`` and make the recipe's objective of them."""
    objective = _objective(recipe, networks, source, device)
    if recipe.model.rank:
        return _saying_its_rank(objective, recipe.model)
    if not (isinstance(recipe, DenoisingRecipe) and recipe.lora):
        return objective

    def export(folder: Path) -> None:
        unets = {STAGES[recipe.run.objective]: networks.unet}
        write_adapter(
            folder / "lora",
            unets,
            recipe.model.cascade,
            dtype=torch.float16,
            whole=distributed.whole,
            writes=distributed.is_main(),
        )

    return replace(
        objective,
        trained={"unet": networks.unet},
        export=export,
        export_once={},
        frozen={"text_encoder": networks.text_encoder},
    )


def _saying_its_rank(objective: Objective, model: Model) -> Objective:
    begun_as = ""
    if distributed.is_main():  # gigabytes are read, and one process writes it down
        begun_as = network_hash(Path(str(model.init_from.get("unet", model.unet))))

    def export(folder: Path) -> None:
        objective.export(folder)
        if distributed.is_main():
            write_rank(folder, model.rank, begun_as)

    return replace(objective, export=export)


def _objective(
    recipe: Recipe, networks: Networks, source: Source, device: torch.device
) -> Objective:
    for name, module in networks.modules().items():
        shared_out = isinstance(recipe, DenoisingRecipe) and name != "vae"
        place(module, recipe.run, device, sharded=shared_out)
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
