"""Runs a recipe from start to end, or says what it would do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from relay_diffusion.config import dump_toml
from relay_diffusion.errors import RelayError
from relay_diffusion.models.folder import max_tokens_of, part_folder, read_index
from relay_diffusion.models.registry import resolve
from relay_diffusion.training import distributed
from relay_diffusion.training.alone import alone_in
from relay_diffusion.training.build import networks_of, objective_of, pick_device
from relay_diffusion.training.cached import text_is_fixed
from relay_diffusion.training.estimate import activation_bytes, describe, estimate
from relay_diffusion.training.feed import Source
from relay_diffusion.training.loop import train
from relay_diffusion.training.networks import load_tokenizer, num_parameters
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import RECIPES, DenoisingRecipe, Recipe
from relay_diffusion.training.rounds import DistillRecipe
from relay_diffusion.training.sources import Read, open_source, open_tokenizer, reader
from relay_diffusion.training.validation import samples_at_once
from relay_diffusion.training.weights import (
    count_distilled,
    count_weights,
    distilling_networks,
    insist_on_memory,
    memory_of,
)

log = logging.getLogger(__name__)

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
        torch.backends.cudnn.benchmark = True  # shapes come again and again
    distributed.join(device)
    _insist_on_memory(recipe, device)
    if source is None:
        read = _reader(recipe) if recipe.data.source == "pictures" else None
        fixed = text_is_fixed(recipe)
        num_samples = recipe.run.steps * recipe.data.batch_size
        source = open_source(recipe.data, recipe.run.seed, device, fixed, read, num_samples)
    try:
        with alone_in(recipe.folder):
            return train(recipe, make(recipe, source, device), device, resume)
    except torch.OutOfMemoryError as error:
        raise RelayError(
            f"{device} has not the memory for {_at_a_time(recipe)}: {SAVING}; "
            "--resume then goes on from the last checkpoint"
        ) from error


def _reader(recipe: Recipe) -> Read | None:
    if isinstance(recipe, DistillRecipe):
        folder = resolve(recipe.objective.teacher)
        tokenizer = load_tokenizer(str(part_folder(folder, "tokenizer")))
        return reader(tokenizer, max_tokens_of(read_index(folder)))
    if recipe.run.objective not in RECIPES:
        return None
    return reader(_tokenizer(recipe), recipe.model.max_tokens)


SAVING = (
    "raise optimizer.accumulate, lower data.batch_size, or set run.activation_checkpointing = true"
)


def _at_a_time(recipe: Recipe) -> str:
    return (
        f"{samples_at_once(recipe)} samples at a time (data.batch_size {recipe.data.batch_size}, "
        f"processes {distributed.world_size()}, optimizer.accumulate "
        f"{recipe.optimizer.accumulate})"
    )


def _insist_on_memory(recipe: Recipe, device: torch.device) -> None:
    """Before anything is loaded; warns if the weights fit and the activations perhaps do not.

    Raises: RelayError if the recipe cannot fit.
    """
    num_devices = distributed.num_shares(recipe.run.replicas)
    if isinstance(recipe, DistillRecipe):
        weights = count_distilled(recipe, distilling_networks(recipe))
        insist_on_memory(weights, num_devices, device)
    if recipe.run.objective not in RECIPES:
        return
    with torch.device("meta"):
        networks = networks_of(recipe, _tokenizer(recipe))
    weights = count_weights(recipe, networks)
    insist_on_memory(weights, num_devices, device)
    if isinstance(recipe, DenoisingRecipe):
        fused = device.type == "cuda"
        of_sample = activation_bytes(recipe, networks, fused) * recipe.run.activation_memory_budget
        activations = of_sample * samples_at_once(recipe)
        wanted, available = weights.bytes_per_device(num_devices) + activations, memory_of(device)
        told = (
            f"about {wanted / 2**30:.3g} GiB are wanted for weights, optimiser and activations of "
            f"{_at_a_time(recipe)}, and {device} has {available / 2**30:.3g}"
        )
        if wanted - activations * (1 - KEPT_COMPILED) > available:
            raise RelayError(f"{told}: {SAVING}")
        if wanted > available and distributed.is_main():
            log.warning("%s: should it run out, %s", told, SAVING)


KEPT_COMPILED = 0.6
"""The share of the counted activations, those that autograd keeps, that a compiler keeps too."""


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
            lines.append(_learning(networks.unet, "the adapter of the unet"))
        elif recipe.model.rank:
            lines.append(_learning(networks.unet, f"of the unet, at rank {recipe.model.rank}"))
        needs = estimate(recipe, networks) if isinstance(recipe, DenoisingRecipe) else None
        weights = needs.weights if needs else count_weights(recipe, networks)
        lines += describe(recipe, weights, needs)
    elif isinstance(recipe, DistillRecipe):
        parts = distilling_networks(recipe)
        for name, module in parts.items():
            lines.append(f"# {name:14} {num_parameters(module):15,} parameters")
        weights = count_distilled(recipe, parts)
        lines.append(
            f"# {'of them learn':14} {weights.learning:15,}, of the student"
            + (" and the critic" if "critic" in parts else "")
        )
        lines += describe(recipe, weights)
    samples = recipe.run.steps * recipe.data.batch_size
    line = f"# {recipe.run.steps:,} steps of {recipe.data.batch_size} are {samples:,} samples"
    if recipe.data.source == "scenes":  # of other pictures the run says how many there are
        line += f", from {-(-samples // recipe.data.reuse):,} pictures"
    lines.append(line)
    lines.append(f"# to {recipe.folder}")
    return "\n".join(lines)


def _learning(unet: Any, what: str) -> str:
    number = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    return f"# {'of them learn':14} {number:15,}, {what}"


def _tokenizer(recipe: Recipe, needed: bool = True) -> Any:
    """None where it is not needed: by the autoencoder, and for the shapes of a text encoder that
    says the size of its vocabulary itself."""
    if recipe.run.objective == "autoencoder":
        return None
    own = recipe.model.text_encoder
    if not needed and isinstance(own, dict) and "vocab_size" in own:
        return None
    return open_tokenizer(recipe)
