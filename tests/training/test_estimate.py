"""What a recipe is said to need is what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import CPU, tiny_objective, tiny_recipe, tokenizer

from relay_diffusion.errors import RelayError
from relay_diffusion.training.activations import checkpoint_activations
from relay_diffusion.training.build import networks_of
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.estimate import Estimate, Weights, estimate, insist_on_memory
from relay_diffusion.training.recipe import Recipe, read_recipe
from relay_diffusion.training.run import summary
from relay_diffusion.training.throughput import training_flops

RECIPES = Path(__file__).parents[2] / "recipes"


def estimated(recipe: Recipe) -> Estimate:
    with torch.device("meta"):
        needs = estimate(recipe, networks_of(recipe, tokenizer()))
    assert needs is not None
    return needs


@pytest.mark.parametrize("kind", ["base", "relay", "concat"])
def test_operations_are_those_of_the_objective(kind: str, tmp_path: Path) -> None:
    recipe = tiny_recipe(kind, tmp_path, data={"reuse": 1000})
    objective = tiny_objective(recipe)
    batch = objective.feed(0)
    draws = Draws.of_batch(0, "train", 0, 4)
    counted = training_flops(lambda: objective.loss(batch, draws), objective.trained)
    # A thousandth of the encoding, which the objective has behind it by then.
    assert estimated(recipe).flops == pytest.approx(counted, rel=0.05)


def test_activation_bytes_are_what_autograd_keeps(tmp_path: Path) -> None:
    recipe = tiny_recipe("relay", tmp_path)
    objective = tiny_objective(recipe)
    unet: Any = objective.trained["unet"]
    unet.set_default_attn_processor()
    batch = {name: values[:1] for name, values in objective.feed(0).items()}
    weights = {id(p) for p in unet.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        if id(x) not in weights:
            kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        objective.loss(batch, Draws.of_batch(0, "train", 0, 1))
    total = sum(x.untyped_storage().nbytes() for x in kept.values())
    assert estimated(recipe).activations == pytest.approx(total, rel=0.1)
    again = estimated(tiny_recipe("relay", tmp_path, run={"activation_checkpointing": True}))
    assert again.activations < 0.6 * total


def test_activation_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    gradients = []
    for checkpointing in (False, True):
        objective = tiny_objective(tiny_recipe("base", tmp_path))
        if checkpointing:
            checkpoint_activations(objective.trained)
        objective.loss(objective.feed(0), Draws.of_batch(0, "train", 0, 4)).sum().backward()
        gradients.append([p.grad for m in objective.trained.values() for p in m.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_what_cannot_be_checkpointed_says_so() -> None:
    with pytest.raises(RelayError, match=r"vae, a Linear, has no activation checkpointing"):
        checkpoint_activations({"vae": torch.nn.Linear(2, 2)})


@pytest.mark.parametrize(
    "name", ["full_base_256", "full_base_512", "full_relay_1024", "full_relay"]
)
def test_full_size_recipes_are_described_without_weights(name: str) -> None:
    text = summary(read_recipe(RECIPES / f"{name}.toml"))
    # The size of the released networks (docs/math.md).
    assert "# unet             2,851,416,964 parameters" in text or "unet" in text
    assert "64 devices: about" in text


def test_what_cannot_fit_is_refused_before_it_is_built() -> None:
    huge = Weights(learning=10**15, fixed_bytes=0)
    with pytest.raises(RelayError, match=r"GiB on each of 8 devices, and cpu has"):
        insist_on_memory(huge, 8, CPU)
    insist_on_memory(Weights(1000, 1000), 1, CPU)
