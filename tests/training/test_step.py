"""What a step learns from has to be finite; where it is not, the run says so."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import CPU, newest_state, tiny_objective, tiny_recipe
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.training.checkpoint import Checkpoints
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch
from relay_diffusion.training.loop import train


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_step(tmp_path: Path) -> None:
    # Looked for every third step; the checkpoint due at step 4 must not be written.
    recipe = tiny_recipe("base", tmp_path, run={"steps": 9, "log_every": 3})
    objective = tiny_objective(recipe)
    calls = iter(range(100))

    def loss(batch: Batch, draws: Draws) -> Tensor:
        value = objective.loss(batch, draws)
        if torch.is_grad_enabled() and next(calls) == 4:  # the first is to count operations
            value[1:3] *= float("nan")
        return value

    message = r"not finite at step 3, at t = (\d+), (\d+); the checkpoint of step 2 is good"
    with pytest.raises(RelayError, match=message) as caught:
        train(recipe, replace(objective, loss=loss), CPU)
    named = re.search(message, str(caught.value))
    assert named is not None and objective.levels is not None
    draws = Draws(recipe.run.seed, "train", 3, torch.tensor([1, 2]), 4)
    assert [int(t) for t in named.groups()] == objective.levels(draws).tolist()
    state = newest_state(recipe)
    assert state["step"] == 2
    assert all(torch.isfinite(value).all() for value in state.values())


def test_a_gradient_that_is_not_finite_is_told_from_a_loss(tmp_path: Path) -> None:
    recipe = tiny_recipe("base", tmp_path, run={"steps": 3})
    objective = tiny_objective(recipe)

    def loss(batch: Batch, draws: Draws) -> Tensor:
        value = objective.loss(batch, draws)
        # Finite itself, with an infinite slope.
        return value + (value - value.detach()).clamp(min=0).sqrt()

    message = "the gradient is not finite at step 0; there is no checkpoint yet"
    with pytest.raises(RelayError, match=message):
        train(recipe, replace(objective, loss=loss), CPU)


def test_a_checkpoint_that_makes_a_bad_loss_is_not_called_good(tmp_path: Path) -> None:
    recipe = tiny_recipe("base", tmp_path, run={"steps": 4}, checkpoint={"every": 1})
    objective = tiny_objective(recipe)
    train(replace(recipe, run=replace(recipe.run, steps=2)), objective, CPU)

    def loss(batch: Batch, draws: Draws) -> Tensor:
        return objective.loss(batch, draws) * float("nan")

    bad = replace(objective, loss=loss)
    with pytest.raises(RelayError, match=r"is so from the checkpoint of step 2 on: move .*-0000"):
        train(recipe, bad, CPU, resume=True)
    shutil.rmtree(Checkpoints(recipe.folder / "checkpoints", 2).path(2))
    assert train(recipe, objective, CPU, resume=True)  # as it was told, from step 1


def test_with_a_single_bad_checkpoint_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    recipe = tiny_recipe("base", tmp_path, run={"steps": 4})
    objective = tiny_objective(recipe)
    train(replace(recipe, run=replace(recipe.run, steps=2)), objective, CPU)
    bad = replace(objective, loss=lambda batch, draws: objective.loss(batch, draws) * float("nan"))
    with pytest.raises(RelayError, match=r"step 2 on: begin anew with --set run\.name"):
        train(recipe, bad, CPU, resume=True)
