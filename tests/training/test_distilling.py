"""Distillation as a series of runs, each starting from what the one before has learned."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_distilling import recipe_for, teacher
from tiny_training import CPU, UNET, Squares, lines

from relay_diffusion.diffusion import NoiseSchedule
from relay_diffusion.errors import RelayError
from relay_diffusion.models.denoiser import Denoiser
from relay_diffusion.models.hashes import network_hash
from relay_diffusion.models.low_rank import pays, write_low_rank
from relay_diffusion.training.distilling import distill
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.loop import train
from relay_diffusion.training.low_rank import plain
from relay_diffusion.training.networks import (
    build_unet,
    save_half,
)
from relay_diffusion.training.rounds import rounds_of
from relay_diffusion.training.run import summary

__all__ = ["teacher"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["base", "relay"])
def test_each_round_starts_from_the_average_of_the_one_before(teacher: Path, stage: str) -> None:
    first, second = rounds_of(recipe_for(teacher, stage=stage))
    assert (first.run.name, second.run.name) == ("fast_4", "fast_2")
    assert (first.run.steps, second.run.steps) == (3, 2)
    assert (first.optimizer.lr, second.optimizer.lr) == (1e-3, 1e-4)
    assert train(first, distill(first, Squares, CPU), CPU)
    made = UNet2DConditionModel.from_pretrained(first.folder / "export" / f"{stage}_unet").float()
    assert made.config.time_cond_proj_dim == 64
    student = distill(second, Squares, CPU).trained["unet"]
    for name, value in student.state_dict().items():
        assert torch.equal(value, made.state_dict()[name]), name
    assert train(second, distill(second, Squares, CPU), CPU)
    log = lines(second)
    assert {"validation/loss", "validation/loss_step_0", "validation/loss_step_1"} <= {
        key for line in log for key in line
    }


@torch.no_grad()
def test_an_untrained_student_says_what_its_teacher_says_without_guidance(teacher: Path) -> None:
    first = next(rounds_of(recipe_for(teacher)))
    student = distill(first, Squares, CPU).trained["unet"]
    unet = build_unet(str(teacher / "base_unet"), 0, 0)
    schedule = NoiseSchedule.scaled_linear()
    z, context = torch.randn(2, 4, 4, 4), torch.randn(2, 8, 16)
    vector, sigma = torch.full((2, 6), 32.0), schedule.sigmas[[900, 100]]
    told = Denoiser(student, schedule, "v_prediction")(context, vector, guidance=5.0)(z, sigma)
    plain = Denoiser(unet, schedule, "v_prediction")(context, vector)(z, sigma)
    torch.testing.assert_close(told, plain)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["base", "relay"])
def test_a_student_of_low_rank_stays_so_through_all_rounds(teacher: Path, stage: str) -> None:
    first, second = rounds_of(recipe_for(teacher, stage=stage, rank=2))
    of = UNet2DConditionModel.from_pretrained(teacher / f"{stage}_unet").float().state_dict()
    for recipe in (first, second):
        objective = distill(recipe, Squares, CPU)
        frozen = [p for p in objective.trained["unet"].parameters() if not p.requires_grad]
        assert sum(p.numel() for p in frozen) > 0.5 * sum(p.numel() for p in of.values())
        assert train(recipe, objective, CPU)
        made = recipe.folder / "export" / f"{stage}_unet"
        told = json.loads((made.parent / "low_rank.json").read_text())
        assert told == {"rank": 2, "of": network_hash(teacher / f"{stage}_unet")}
        weights = UNet2DConditionModel.from_pretrained(made).float().state_dict()
        moved = 0
        for name, own in of.items():
            difference = (weights[name] - own).flatten(1) if own.ndim > 1 else None
            if difference is not None and pays(own, 2) and difference.any():
                values = torch.linalg.svdvals(difference)
                # What is left over is the half precision that networks are exported in.
                assert values[2:].norm() < 2e-3 * weights[name].norm(), name
                moved += bool(values[0] > 2e-3 * weights[name].norm())
        assert moved, "nothing was learned"


@pytest.mark.slow
def test_a_round_of_low_rank_goes_on_where_the_last_one_ended(teacher: Path) -> None:
    first, second = rounds_of(recipe_for(teacher, rank=2))
    assert train(first, distill(first, Squares, CPU), CPU)
    made = UNet2DConditionModel.from_pretrained(first.folder / "export" / "base_unet").float()
    student = distill(second, Squares, CPU).trained["unet"]
    for name, weight in plain(student.state_dict()).items():
        torch.testing.assert_close(weight, made.state_dict()[name], rtol=0, atol=3e-4)


@pytest.mark.parametrize("stage", ["base", "relay"])
def test_consistency_takes_one_round(teacher: Path, stage: str) -> None:
    rounds = [{"num_steps": 2, "steps": 3}]
    recipe = recipe_for(teacher, stage=stage, method="consistency", teacher_steps=8, rounds=rounds)
    (only,) = rounds_of(recipe)
    assert train(only, distill(only, Squares, CPU), CPU)
    told = json.loads((only.folder / "export" / "distilled.json").read_text())
    assert told["num_steps"] == 2
    log = lines(only)
    assert any("validation/loss_step_1" in line for line in log)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {
                "rounds": [
                    {"num_steps": 2, "steps": 2},
                    {"num_steps": 1, "steps": 1, "loss": "matching"},
                ]
            },
            "2 steps is followed by one of 1; .* one that matches as many",
        ),
        (
            {"rounds": [{"num_steps": 2, "steps": 1, "critic_lr": 1e-3}]},
            "critic_lr is for loss = 'matching', no other round has a critic",
        ),
        ({"teacher_steps": 8}, "by halving it follows from the rounds, 8: leave it out"),
        ({"method": "consistency", "teacher_steps": 8}, "method consistency takes one round"),
        (
            {
                "method": "consistency",
                "teacher_steps": 8,
                "rounds": [
                    {"num_steps": 2, "steps": 1, "loss": "matching"},
                    {"num_steps": 1, "steps": 1},
                ],
            },
            "method consistency takes one round",
        ),
        (
            {"method": "consistency", "rounds": [{"num_steps": 4, "steps": 1}]},
            "teacher_steps is 0, must be a multiple of the student's 4 steps, such as 16",
        ),
        ({"start": 300}, "start is of a relay, and this distils a base stage"),
        ({"guidance_width": 3}, "guidance_width is 3, must be even, 4 or more"),
        ({"guidance_width": 0}, "guidance_width is 0, must be even, 4 or more"),
        ({"rounds": [{"num_steps": 0, "steps": 1}]}, "num_steps is 0, must be at least 1"),
        ({"rounds": [{"num_steps": 2, "steps": 1, "lr": -1}]}, "lr is -1, must be at least 0"),
        (
            {"rounds": [{"num_steps": 256, "steps": 1}], "stage": "relay", "start": 300},
            "the teacher would take 512 steps, of 300 that there are",
        ),
        ({"through_vae": 0.9}, 'through_vae has an effect only with objective.stage = "relay"'),
        ({"start": 0.5}, "start is 0.5, must be 1 to 1000, or 0 for the teacher's"),
        ({"rank": -1}, "rank is -1, must be above 0, or 0 for all weights"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    teacher: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(RelayError, match=message):
        recipe_for(teacher, **settings)


@pytest.mark.parametrize("method", ["halving", "consistency"])
def test_all_of_a_student_learns_in_half_precision(teacher: Path, method: str) -> None:
    """Also what was computed with before, without gradients, under the same autocast."""
    more = {"teacher_steps": 8} if method == "consistency" else {}
    rounds = [{"num_steps": 4, "steps": 1}]
    only = next(rounds_of(recipe_for(teacher, rank=2, method=method, rounds=rounds, **more)))
    objective = distill(only, Squares, CPU)
    unet = objective.trained["unet"]
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.01)  # or else nothing below it would get a gradient
    draws = Draws(0, "train", 0, torch.arange(4), 4)
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective.loss(objective.feed(0), draws).sum()
    loss.backward()
    learning = {name: p for name, p in unet.named_parameters() if p.requires_grad}
    assert len(learning) > 50
    assert not [name for name, p in learning.items() if p.grad is None or not p.grad.any()]


@pytest.mark.slow
def test_a_run_of_low_rank_goes_on_where_it_stopped(teacher: Path) -> None:
    rounds = [{"num_steps": 4, "steps": 4}]
    made = []
    for name, stops in (("whole", False), ("stopped", True)):
        recipe = recipe_for(teacher, rank=2, rounds=rounds)
        recipe = replace(recipe, run=replace(recipe.run, name=name))
        only = next(rounds_of(recipe))
        if stops:
            brief = replace(only, run=replace(only.run, steps=2))
            assert train(brief, distill(brief, Squares, CPU), CPU)
        assert train(only, distill(only, Squares, CPU), CPU, resume=stops)
        made.append(UNet2DConditionModel.from_pretrained(only.folder / "export" / "base_unet"))
    for name, value in made[0].state_dict().items():
        assert torch.equal(value, made[1].state_dict()[name]), name


def test_a_teacher_that_is_stored_as_a_difference_teaches_as_a_whole_one(teacher: Path) -> None:
    relay = build_unet(str(teacher / "base_unet"), 0, 0)
    with torch.no_grad():
        for weight in relay.parameters():
            if weight.ndim >= 2:
                difference = torch.outer(torch.randn(len(weight)), torch.randn(weight[0].numel()))
                weight += 0.05 * difference.view_as(weight)
    relay.save_pretrained(teacher / "relay_unet")
    difference_only = teacher.parent / "other"
    shutil.copytree(teacher, difference_only)
    own = difference_only / "relay_unet"
    (own / "diffusion_pytorch_model.safetensors").unlink()
    write_low_rank(own, relay, difference_only / "base_unet", 1)
    losses = []
    for cascade in (teacher, difference_only):
        objective = distill(next(rounds_of(recipe_for(cascade, stage="relay"))), Squares, CPU)
        losses.append(objective.loss(objective.feed(0), Draws.of_batch(0, "train", 0, 4)).detach())
    torch.testing.assert_close(losses[1], losses[0], rtol=0.01, atol=0)  # half precision


def test_a_preview_has_the_teacher_beside_the_student(teacher: Path) -> None:
    for stage, columns in (("base", 2), ("relay", 3)):
        first = next(rounds_of(recipe_for(teacher, stage=stage)))
        first = replace(first, preview=replace(first.preview, num_pictures=3))
        objective = distill(first, Squares, CPU)
        assert objective.preview is not None
        with torch.no_grad():
            pictures, in_a_row = objective.preview()
        assert pictures.shape == (3 * columns, 3, 32, 32) and in_a_row % columns == 0
        assert pictures.abs().max() <= 1
        teachers, students = pictures[columns - 2 :: columns], pictures[columns - 1 :: columns]
        assert not torch.equal(teachers, students)


def test_a_relay_student_starts_where_its_teacher_does(teacher: Path, tmp_path: Path) -> None:
    (teacher / "model_index.json").write_text(json.dumps({"max_tokens": 8, "relay_start": [200]}))
    for recipe in rounds_of(recipe_for(teacher, stage="relay")):
        assert recipe.objective.start == 200
        assert "start = 200.0" in summary(recipe)
    assert next(rounds_of(recipe_for(teacher, stage="relay", start=200))).objective.start == 200
    first = next(rounds_of(recipe_for(teacher, stage="relay")))
    distill(first, Squares, CPU).export(tmp_path)
    assert json.loads((tmp_path / "distilled.json").read_text())["start"] == 200
    with pytest.raises(RelayError, match=r"start is 500, but the relay of .* for 200: leave start"):
        next(rounds_of(recipe_for(teacher, stage="relay", start=500)))
    rounds = [{"num_steps": 128, "steps": 1}]
    with pytest.raises(RelayError, match="the teacher would take 256 steps, of 200 that there are"):
        next(rounds_of(recipe_for(teacher, stage="relay", rounds=rounds)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"base stage of .* is a student of 4 steps, and would be run for 8: name the cascade"),
        (
            {"rounds": [{"num_steps": 4, "steps": 1, "loss": "matching"}]},
            "a round that matches asks its teacher at every noise level",
        ),
        (
            {"rounds": [{"num_steps": 2, "steps": 1}]},
            r"guidance is \[1.0, 8.0\], and the base stage of .* knows \[1.0, 5.0\] only",
        ),
        ({"rounds": [{"num_steps": 2, "steps": 1}], "guidance": [2.0, 5.0]}, ""),
        ({"stage": "relay"}, ""),
    ],
)
def test_a_student_teaches_what_it_has_learned(
    teacher: Path, settings: dict[str, Any], message: str
) -> None:
    told = {"max_tokens": 8, "trained_base_steps": 4, "guidance_range": [1.0, 5.0]}
    (teacher / "model_index.json").write_text(json.dumps(told))
    recipe = recipe_for(teacher, **settings)
    if not message:
        assert list(rounds_of(recipe))
        return
    with pytest.raises(RelayError, match=message):
        next(rounds_of(recipe))


def test_what_a_round_decides_itself_is_not_set_beside_it(teacher: Path) -> None:
    recipe = recipe_for(teacher)
    scales = replace(recipe.optimizer, scales={"critic": 2.0})
    with pytest.raises(RelayError, match=r"optimizer.scales.critic has no effect, critic_lr of"):
        next(rounds_of(replace(recipe, optimizer=scales)))
    unet = build_unet({**UNET, "time_cond_proj_dim": 32}, 4, 16)
    save_half(unet, teacher.parent / "told")
    shutil.rmtree(teacher / "base_unet")
    shutil.move(teacher.parent / "told", teacher / "base_unet")
    for width in (32, 64):
        assert next(rounds_of(recipe_for(teacher, guidance_width=width)))
    with pytest.raises(RelayError, match=r"guidance_width is 16, and .* by an embedding of 32"):
        next(rounds_of(recipe_for(teacher, guidance_width=16)))


def test_an_export_says_what_its_teacher_predicts(teacher: Path, tmp_path: Path) -> None:
    distill(next(rounds_of(recipe_for(teacher))), Squares, CPU).export(tmp_path)
    told = json.loads((tmp_path / "distilled.json").read_text())
    assert told["prediction_type"] == "v_prediction"
    assert "start" not in told  # the base has none


def test_rounds_that_do_not_halve_are_refused(teacher: Path) -> None:
    rounds = [{"num_steps": 8, "steps": 1}, {"num_steps": 2, "steps": 1}]
    with pytest.raises(RelayError, match="8 steps is followed by one of 2; each must have half"):
        recipe_for(teacher, rounds=rounds)


def test_a_teacher_of_another_noise_schedule_is_refused(teacher: Path) -> None:
    file = teacher / "scheduler" / "scheduler_config.json"
    file.write_text(file.read_text().replace("0.012", "0.02"))
    with pytest.raises(RelayError, match=r"beta_end of .* is 0.02, that of training is 0.012"):
        distill(next(rounds_of(recipe_for(teacher))), Squares, CPU)
