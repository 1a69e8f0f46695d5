"""Runs a recipe from start to end, or says what it would do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from relay_diffusion.config import dump_toml
from relay_diffusion.training import distributed
from relay_diffusion.training.build import networks_of, objective_of, pick_device
from relay_diffusion.training.cached import text_is_fixed
from relay_diffusion.training.estimate import count_weights, describe, estimate, insist_on_memory
from relay_diffusion.training.feed import Source
from relay_diffusion.training.loop import train
from relay_diffusion.training.networks import num_parameters
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import RECIPES, DenoisingRecipe, Recipe
from relay_diffusion.training.sources import open_source, open_tokenizer, reader

Make = Callable[[Any, Source, torch.device], Objective]


def make_objective(recipe: Recipe, source: Source, device: torch.device) -> Objective:
    """The objective that ``run.objective`` names, its networks built or loaded."""
    return objective_of(recipe, networks_of(recipe, _tokenizer(recipe)), source, device)


def run(
    recipe: Recipe, resume: bool = False, source: Source | None = None, make: Make = make_objective
) -> bool:
    """Train as the recipe says.

    Args:
        resume: go on from the newest checkpoint, if there is one.
        source: data other than the recipe's, for callers with their own.
        make: the objective, for callers with their own.
    Returns: True if complete, False if stopped early. Raises: RelayError, see ``loop.train``.
    """
    if recipe.run.num_threads:
        torch.set_num_threads(recipe.run.num_threads)
    device = pick_device(recipe)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    distributed.join(device)
    _insist_on_memory(recipe, device)
    if source is None:
        checks = recipe.data.source == "pictures" and recipe.run.objective in RECIPES
        read = reader(recipe, _tokenizer(recipe)) if checks else None
        fixed = text_is_fixed(recipe)
        source = open_source(recipe.data, recipe.run.seed, device, fixed, read)
    return train(recipe, make(recipe, source, device), device, resume)


def _insist_on_memory(recipe: Recipe, device: torch.device) -> None:
    """Before anything is loaded. Raises: RelayError if the recipe cannot fit."""
    if recipe.run.objective in RECIPES:
        with torch.device("meta"):
            weights = count_weights(recipe, networks_of(recipe, _tokenizer(recipe)))
        if weights is not None:
            insist_on_memory(weights, distributed.world_size(), device)


def summary(recipe: Recipe) -> str:
    """The resolved recipe, parameters of each module, memory and time, steps and pictures;
    allocates no weights and reads no data."""
    lines = [dump_toml(recipe).rstrip(), ""]
    if recipe.run.objective in RECIPES:
        tokenizer = _tokenizer(recipe, needed=False)
        with torch.device("meta"):
            networks = networks_of(recipe, tokenizer)
        for name, module in networks.modules().items():
            lines.append(f"# {name:14} {num_parameters(module):15,} parameters")
        if isinstance(recipe, DenoisingRecipe) and recipe.lora:
            adapter = sum(p.numel() for p in networks.unet.parameters() if p.requires_grad)
            lines.append(f"# {'of them learn':14} {adapter:15,}, the adapter of the unet")
        needs = estimate(recipe, networks)
        lines += describe(recipe, needs) if needs else []
    samples = recipe.run.steps * recipe.data.batch_size
    lines.append(
        f"# {recipe.run.steps:,} steps of {recipe.data.batch_size} are {samples:,} samples, "
        f"from {-(-samples // recipe.data.reuse):,} pictures"
    )
    lines.append(f"# to {recipe.folder}")
    return "\n".join(lines)


def _tokenizer(recipe: Recipe, needed: bool = True) -> Any:
    """None where it is not needed: by the autoencoder, and for the shapes of a text encoder that
    says the size of its vocabulary itself."""
    if recipe.run.objective == "autoencoder":
        return None
    own = recipe.model.text_encoder
    if not needed and isinstance(own, dict) and "vocab_size" in own:
        return None
    return open_tokenizer(recipe)
