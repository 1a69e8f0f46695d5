"""Rounds whose student is matched to its teacher's distribution, a critic beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_distilling import recipe_for, teacher
from tiny_training import CPU, Squares, lines

from relay_diffusion.training.distilling import distill
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.loop import train
from relay_diffusion.training.low_rank import plain
from relay_diffusion.training.networks import (
    build_unet,
)
from relay_diffusion.training.rounds import rounds_of
from relay_diffusion.training.run import summary
from relay_diffusion.training.weights import count_distilled, distilling_networks

__all__ = ["teacher"]

MATCHED = [
    {"num_steps": 2, "steps": 1},
    {"num_steps": 2, "steps": 3, "loss": "matching", "lr": 1e-4, "critic_lr": 1e-3},
]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["base", "relay"])
def test_a_round_that_matches_goes_on_with_the_student_before(teacher: Path, stage: str) -> None:
    first, second = rounds_of(recipe_for(teacher, stage=stage, rank=2, rounds=MATCHED))
    assert (first.run.name, second.run.name) == ("fast_2", "fast_2_matched")
    assert second.optimizer.lr == 1e-4
    assert second.optimizer.scales == {"critic": pytest.approx(10)}
    assert train(first, distill(first, Squares, CPU), CPU)
    made = UNet2DConditionModel.from_pretrained(first.folder / "export" / f"{stage}_unet").float()
    objective = distill(second, Squares, CPU)
    begun = plain(objective.trained["unet"].state_dict())
    for name, value in made.state_dict().items():
        torch.testing.assert_close(begun[name], value, rtol=0, atol=3e-4)
    # The critic begins as the cascade's own stage, which makes the pictures that are matched.
    own = build_unet(str(teacher / f"{stage}_unet"), 0, 0).state_dict()
    critic = plain(objective.trained["critic"].state_dict())
    for name, value in own.items():
        torch.testing.assert_close(critic[name], value)
    assert train(second, objective, CPU)
    assert (second.folder / "export" / f"{stage}_unet" / "config.json").is_file()
    assert not (second.folder / "export" / "critic").exists()
    told = json.loads((second.folder / "export" / "distilled.json").read_text())
    assert told["num_steps"] == 2
    log = lines(second)
    assert any({"validation/loss_step_0", "validation/loss_step_1"} <= line.keys() for line in log)
    for part in objective.trained.values():
        assert any(bool((p != 0).any()) for n, p in part.named_parameters() if n.endswith(".up"))


def test_rounds_that_match_have_a_folder_each(teacher: Path) -> None:
    first, second, third = rounds_of(recipe_for(teacher, rounds=[*MATCHED, MATCHED[1]]))
    assert [one.run.name for one in (second, third)] == ["fast_2_matched", "fast_2_matched_2"]
    assert second.model.unet == str(first.folder / "export" / "base_unet")
    assert third.model.unet == str(second.folder / "export" / "base_unet")


@pytest.mark.slow
def test_a_consistent_student_can_be_matched(teacher: Path) -> None:
    recipe = recipe_for(teacher, method="consistency", teacher_steps=8, rounds=MATCHED)
    _, second = rounds_of(recipe)
    second = replace(second, model=replace(second.model, unet=""))
    assert train(second, distill(second, Squares, CPU), CPU)


@pytest.mark.parametrize("stage", ["base", "relay"])
def test_student_and_critic_learn_each_from_its_own_loss(teacher: Path, stage: str) -> None:
    """Of the student's loss no gradient reaches the critic, and the other way round; nor do they
    reach the teacher's networks."""
    *_, recipe = rounds_of(recipe_for(teacher, stage=stage, rounds=MATCHED))
    recipe = replace(recipe, model=replace(recipe.model, unet=""))
    objective = distill(recipe, Squares, CPU)
    batch, draws = objective.feed(0), Draws(0, "train", 0, torch.arange(4), 4)
    objective.loss(batch, draws).sum().backward()
    both = {n: [p.grad.clone() for p in m.parameters()] for n, m in objective.trained.items()}
    for own, other in (("unet", "critic"), ("critic", "unet")):
        for module in objective.trained.values():
            module.zero_grad()
        objective.trained[other].requires_grad_(False)
        objective.loss(batch, draws).sum().backward()
        objective.trained[other].requires_grad_(True)
        for parameter, expected in zip(objective.trained[own].parameters(), both[own], strict=True):
            torch.testing.assert_close(parameter.grad, expected)
        assert any(bool(g.any()) for g in both[own])


def test_a_critic_counts(teacher: Path) -> None:
    learning = []
    for rounds in (MATCHED[:1], MATCHED):
        recipe = recipe_for(teacher, rounds=rounds)
        networks = distilling_networks(recipe)
        assert ("critic" in networks) == (len(rounds) == 2)
        assert ("of the student and the critic" in summary(recipe)) == (len(rounds) == 2)
        learning.append(count_distilled(recipe, networks).learning)
    assert learning[1] == 2 * learning[0]
