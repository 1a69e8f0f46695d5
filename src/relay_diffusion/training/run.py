"""Runs a recipe from start to end, or says what it would do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from relay_diffusion.config import dump_toml
from relay_diffusion.training.build import networks_of, objective_of, pick_device
from relay_diffusion.training.cached import text_is_fixed
from relay_diffusion.training.feed import Source
from relay_diffusion.training.loop import train
from relay_diffusion.training.networks import num_parameters
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import RECIPES, Recipe
from relay_diffusion.training.sources import open_source, open_tokenizer

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
    source = source or open_source(recipe.data, recipe.run.seed, device, text_is_fixed(recipe))
    return train(recipe, make(recipe, source, device), device, resume)


def summary(recipe: Recipe) -> str:
    """The resolved recipe, parameters of each module, steps and pictures; allocates no weights."""
    lines = [dump_toml(recipe).rstrip(), ""]
    if recipe.run.objective in RECIPES:
        tokenizer = _tokenizer(recipe)
        with torch.device("meta"):
            networks = networks_of(recipe, tokenizer)
        for name, module in networks.modules().items():
            lines.append(f"# {name:14} {num_parameters(module):15,} parameters")
    samples = recipe.run.steps * recipe.data.batch_size
    lines.append(
        f"# {recipe.run.steps:,} steps of {recipe.data.batch_size} are {samples:,} samples, "
        f"from {-(-samples // recipe.data.reuse):,} pictures"
    )
    lines.append(f"# to {recipe.folder}")
    return "\n".join(lines)


def _tokenizer(recipe: Recipe) -> Any:
    return None if recipe.run.objective == "autoencoder" else open_tokenizer(recipe)
