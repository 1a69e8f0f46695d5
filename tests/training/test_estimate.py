"""What a recipe is said to need is what it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import CPU, Squares, tiny_objective, tiny_recipe, tokenizer

from relay_diffusion.cli.train import objectives
from relay_diffusion.errors import RelayError
from relay_diffusion.training.activations import checkpoint_activations
from relay_diffusion.training.build import networks_of, objective_of
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.estimate import Estimate, estimate
from relay_diffusion.training.objective import Objective
from relay_diffusion.training.recipe import DenoisingRecipe, Recipe, read_recipe
from relay_diffusion.training.rounds import DistillRecipe, rounds_of
from relay_diffusion.training.run import run, summary
from relay_diffusion.training.throughput import training_flops
from relay_diffusion.training.weights import (
    Weights,
    count_weights,
    insist_on_memory,
    memory_of,
)

RECIPES = Path(__file__).parents[2] / "recipes"


def estimated(recipe: Recipe) -> Estimate:
    assert isinstance(recipe, DenoisingRecipe)
    with torch.device("meta"):
        return estimate(recipe, networks_of(recipe, tokenizer()))


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
    weights = {p.untyped_storage().data_ptr() for p in unet.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        if (storage := x.untyped_storage().data_ptr()) not in weights:
            kept[storage] = x
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["full_base_256", "full_base_512", "full_relay_1024", "full_relay"]
)
def test_full_size_recipes_are_described_without_weights(name: str) -> None:
    text = summary(read_recipe(RECIPES / f"{name}.toml"))
    # The size of the released networks (docs/math.md).
    assert "# unet             2,906,612,484 parameters" in text
    assert "64 devices: about" in text


def test_what_cannot_fit_is_refused_before_it_is_built() -> None:
    huge = Weights(learning=10**15, fixed_bytes=0)
    with pytest.raises(RelayError, match=r"GiB on each of 8 devices, and cpu has"):
        insist_on_memory(huge, 8, CPU)
    insist_on_memory(Weights(1000, 1000), 1, CPU)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_weights_are_counted_as_they_are_kept(scale: float, tmp_path: Path) -> None:
    optimizer = {"scales": {"text_encoder": scale}, "accumulate": 2}
    recipe = tiny_recipe("base", tmp_path, optimizer=optimizer)
    networks = networks_of(recipe, tokenizer())
    vae, text, unet = (
        sum(p.numel() for p in module.parameters())
        for module in (networks.vae, networks.text_encoder, networks.unet)
    )
    learning = unet + (text if scale else 0)
    weights = count_weights(recipe, networks)
    # A text encoder that stays as it is is shared out with the UNet.
    assert weights == Weights(learning, 4 * vae, 0 if scale else 4 * text, whole_gradients=True)
    alone = 4 * vae + 20 * learning + (0 if scale else 4 * text)
    assert weights.bytes_per_device(1) == alone
    shared = (16 * learning + (0 if scale else 4 * text)) / 2 + 4 * learning
    assert weights.bytes_per_device(2) == 4 * vae + shared


@pytest.mark.parametrize("kind", ["relay", "concat"])
def test_a_text_encoder_that_does_not_learn_is_shared_out(kind: str, tmp_path: Path) -> None:
    recipe = tiny_recipe(kind, tmp_path)
    networks = networks_of(recipe, tokenizer())
    objective = objective_of(recipe, networks, Squares, CPU)
    assert objective.frozen == {"text_encoder": networks.text_encoder}
    vae, text, unet = (
        sum(p.numel() for p in module.parameters())
        for module in (networks.vae, networks.text_encoder, networks.unet)
    )
    assert count_weights(recipe, networks) == Weights(unet, 4 * vae, 4 * text)


def no_memory(*_: object) -> Objective:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nand more")


def test_running_out_of_memory_says_what_to_lower(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(
        "base",
        tmp_path,
        data={"batch_size": 64},
        optimizer={"accumulate": 2},
        run={"device": "cpu"},
    )
    needs = estimated(recipe)
    wanted = int(needs.bytes_per_device(1, 32))
    for available, warns in ((int(wanted * 1.1), False), (int(wanted * 0.9), True)):
        monkeypatch.setattr("relay_diffusion.training.run.memory_of", lambda _, a=available: a)
        caplog.clear()
        with pytest.raises(RelayError, match=r"32 samples at a time .* raise optimizer") as error:
            run(recipe, source=Squares, make=no_memory)
        for word in ("data.batch_size", "optimizer.accumulate", "activation_checkpointing"):
            assert word in str(error.value)
        assert "\n" not in str(error.value)
        assert ("activations of 32 samples at a time" in caplog.text) == warns


def test_a_batch_far_beyond_the_memory_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe("base", tmp_path, run={"device": "cpu"}, data={"batch_size": 64})
    available = int(estimated(recipe).bytes_per_device(1, 64) / 2)
    monkeypatch.setattr("relay_diffusion.training.run.memory_of", lambda _: available)
    with pytest.raises(RelayError, match=r"are wanted for .* 64 samples at a time .* raise optim"):
        run(recipe, source=Squares, make=lambda *_: pytest.fail("it was loaded"))

    class LoadedError(Exception):
        pass

    def load(*_: Any) -> Objective:
        raise LoadedError

    smaller = {"compile": True, "activation_memory_budget": 0.25}
    with pytest.raises(LoadedError):
        run(replace(recipe, run=replace(recipe.run, **smaller)), source=Squares, make=load)


@pytest.mark.parametrize("text", ["max", "5000000"])
def test_the_memory_of_a_container_is_its_limit(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(f"{text}\n")
    monkeypatch.setattr("relay_diffusion.training.weights._CONTAINER_LIMIT", tmp_path / "nothing")
    physical = memory_of(CPU)
    monkeypatch.setattr(
        "relay_diffusion.training.weights._CONTAINER_LIMIT", tmp_path / "memory.max"
    )
    assert memory_of(CPU) == (physical if text == "max" else 5_000_000)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("starter_cpu_autoencoder", ["# vae ", "1 device : "]),
        ("starter_cpu_text", ["# text_encoder ", "1 device : "]),
        ("distill_cpu_base", ["# teacher ", "# student ", "# of them learn ", "1 device : "]),
    ],
)
def test_recipes_of_all_kinds_tell_their_weights(name: str, lines: list[str]) -> None:
    kinds, _ = objectives()
    recipe = read_recipe(RECIPES / f"{name}.toml", kinds=kinds)
    if isinstance(recipe, DistillRecipe):
        recipe = next(rounds_of(recipe))
    text = summary(recipe)
    for line in lines:
        assert line in text
    assert "activations come on top" in text
