"""Gradients are bounded in norm, and those of separate losses apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_distilling import recipe_for, teacher
from tiny_training import CPU, Squares, tiny_objective, tiny_recipe
from torch import nn

from relay_diffusion.training.clipping import clip_gradients, clipped_together
from relay_diffusion.training.distilling import distill
from relay_diffusion.training.loop import train
from relay_diffusion.training.rounds import rounds_of

__all__ = ["teacher"]


def with_gradient(*values: float) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(len(values)))
    parameter.grad = torch.tensor(values)
    return parameter


def gradient(parameter: nn.Parameter) -> list[float]:
    assert parameter.grad is not None
    return parameter.grad.tolist()


@pytest.mark.parametrize(
    ("clip", "of_first", "of_second"), [(1.0, 0.2, 1.0), (2.5, 0.5, 1.0), (0.0, 1.0, 1.0)]
)
def test_each_group_is_scaled_to_the_bound(clip: float, of_first: float, of_second: float) -> None:
    a, b, c = with_gradient(3.0), with_gradient(0.0, 4.0), with_gradient(0.5)
    norms = clip_gradients({"first": [a, b], "second": [c]}, clip)
    assert {name: float(norm) for name, norm in norms.items()} == {"first": 5.0, "second": 0.5}
    assert gradient(a) == pytest.approx([3 * of_first], rel=1e-5)
    assert gradient(b) == pytest.approx([0, 4 * of_first], rel=1e-5)
    assert gradient(c) == pytest.approx([0.5 * of_second], rel=1e-5)


def test_a_step_goes_no_further_than_the_bound(tmp_path: Path) -> None:
    """With an epsilon that outweighs all moments, AdamW's first step is lr / eps times g."""
    optimizer = {"lr": 1e3, "eps": 1e3, "warmup": 0, "weight_decay": 0.0, "clip": 0.01}
    recipe = tiny_recipe("autoencoder", tmp_path, run={"steps": 1}, optimizer=optimizer)
    objective = tiny_objective(recipe)
    parameters = list(objective.trained["vae"].parameters())
    before = [p.detach().clone() for p in parameters]
    train(recipe, objective, CPU)
    moved = [(p - old).norm() for p, old in zip(parameters, before, strict=True)]
    assert torch.stack(moved).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_what_learns_from_one_loss_is_clipped_together(tmp_path: Path) -> None:
    objective = tiny_objective(tiny_recipe("base", tmp_path))
    objective.trained["text_encoder"].requires_grad_(False)
    (learning,) = clipped_together(objective).values()
    assert len(learning) == len(list(objective.trained["unet"].parameters()))


def test_student_and_critic_are_clipped_apart(teacher: Path) -> None:
    rounds = [{"num_steps": 2, "steps": 1}, {"num_steps": 2, "steps": 1, "loss": "matching"}]
    *_, recipe = rounds_of(recipe_for(teacher, rounds=rounds))
    recipe = replace(recipe, model=replace(recipe.model, unet=""))
    groups = clipped_together(distill(recipe, Squares, CPU))
    assert groups.keys() == {"grad_norm_unet", "grad_norm_critic"}
    assert len(groups["grad_norm_unet"]) == len(groups["grad_norm_critic"]) > 0
