"""What a distillation is told: the stage, its rounds, and what is learned in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from relay_diffusion.diffusion import Denoise, NoiseSchedule, truncated_snr_weight
from relay_diffusion.errors import RelayError
from relay_diffusion.models.registry import resolve
from relay_diffusion.training.cascade import read_cascade
from relay_diffusion.training.data_settings import at_least, within
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch
from relay_diffusion.training.objective_settings import (
    NUM_TRAIN_STEPS,
    Redraw,
    insist_on_pictures,
)
from relay_diffusion.training.recipe import Model, Recipe
from relay_diffusion.training.teachers import (
    insist_on_learned,
    insist_on_width,
    start_of_teacher,
)

Error = Callable[[Batch, Draws], tuple[Tensor, Tensor]]
"""(batch, draws) -> weighted loss of each sample and index of the student's step, each (B,)."""

Taught = Callable[[Tensor, Tensor, Tensor], Denoise]
"""(context, vector, guidance scale) -> what is learned from, under that guidance."""


@dataclass(frozen=True)
class Round:
    """One student of distillation.

    Attributes:
        num_steps: sampling steps of this student.
        steps: optimiser steps that it is trained for.
        lr: learning rate; 0 is ``optimizer.lr``.
        loss: "regression" learns the steps of its teacher, the round before or the cascade's own
            stage. "matching" goes on with the student of the round before, with as many steps, and
            has its pictures distributed as those of the cascade's own stage.
        critic_lr: of "matching": learning rate of the critic, which has to keep up; 0 is 5 ``lr``.
    """

    num_steps: int
    steps: int
    lr: float = 0.0
    loss: Literal["regression", "matching"] = "regression"
    critic_lr: float = 0.0

    def __post_init__(self) -> None:
        at_least(1, num_steps=self.num_steps, steps=self.steps)
        at_least(0, lr=self.lr, critic_lr=self.critic_lr)
        if self.critic_lr and not self.matches:
            raise RelayError("critic_lr is for loss = 'matching', no other round has a critic")

    @property
    def matches(self) -> bool:
        return self.loss == "matching"


@dataclass(frozen=True)
class DistillObjective:
    """What is distilled, and how (docs/distillation.md).

    Attributes:
        teacher: cascade whose stage is distilled: a registered name, a folder or a hub id.
        stage: "base" or "relay".
        method: "halving" runs the teacher for two steps to every one of the student's, round after
            round; "consistency" goes from ``teacher_steps`` to the student's in one round.
        rounds: in order, at least one, each with half the steps of the one before; one that
            matches, with as many.
        teacher_steps: of the teacher of a consistency model, a multiple of the student's.
        start: T_r of the relay student, which must be that of its teacher; 0: taken from there.
        guidance: lowest and highest scale that is drawn.
        guidance_width: of the scale's embedding in the student, even, at least 4.
        rank: 0 lets all weights of the student learn; above, it is the stage of ``teacher`` plus
            matrices of that rank, which can be stored beside it in little space.
        weighting: of |D - D*|^2: "truncated_snr" is max(1 / sigma^2, 1), "snr" is 1 / sigma^2,
            "v" is 1 + 1 / sigma^2.
        through_vae: as in the relay objective.
        redraw: as in the relay objective.
    """

    teacher: str = "starter"
    stage: Literal["base", "relay"] = "base"
    method: Literal["halving", "consistency"] = "halving"
    rounds: tuple[Round, ...] = ()
    teacher_steps: int = 0
    start: float = 0.0
    guidance: tuple[float, float] = (1.0, 8.0)
    guidance_width: int = 64
    rank: int = 0
    weighting: Literal["truncated_snr", "snr", "v"] = "truncated_snr"
    through_vae: float = 0.5
    redraw: Redraw | None = None

    def __post_init__(self) -> None:
        if not self.rounds:
            raise RelayError("rounds is empty: give one at least, [[objective.rounds]]")
        for before, after in pairwise(self.rounds):
            if before.num_steps != after.num_steps * (1 if after.matches else 2):
                raise RelayError(
                    f"a round of {before.num_steps} steps is followed by one of {after.num_steps}; "
                    "each must have half the steps of the one before, one that matches as many"
                )
        num_steps = self.rounds[0].num_steps
        if self.method == "halving":
            if self.teacher_steps:
                raise RelayError(
                    f"teacher_steps is {self.teacher_steps}; by halving it follows from the "
                    f"rounds, {2 * num_steps}: leave it out"
                )
        elif not all(one.matches for one in self.rounds[1:]):
            raise RelayError(
                "method consistency takes one round, and one that matches after it: leave the "
                "other [[objective.rounds]] out"
            )
        elif self.teacher_steps <= num_steps or self.teacher_steps % num_steps:
            raise RelayError(
                f"teacher_steps is {self.teacher_steps}, must be a multiple of the student's "
                f"{num_steps} steps, such as {4 * num_steps}"
            )
        if self.start and not 1 <= self.start <= NUM_TRAIN_STEPS:
            raise RelayError(
                f"start is {self.start:g}, must be 1 to {NUM_TRAIN_STEPS}, or 0 for the teacher's"
            )
        longest = int(self.start) if self.stage == "relay" and self.start else NUM_TRAIN_STEPS
        taken = self.teacher_steps or 2 * num_steps
        if taken > longest:
            raise RelayError(f"the teacher would take {taken} steps, of {longest} that there are")
        if not 0 < self.guidance[0] <= self.guidance[1]:
            raise RelayError(f"guidance is {list(self.guidance)}, must be lowest and highest scale")
        if self.stage == "base" and (self.redraw or self.start):
            raise RelayError(
                f"{'redraw' if self.redraw else 'start'} is of a relay, and this distils a base "
                "stage: leave it out"
            )
        if self.guidance_width < 4 or self.guidance_width % 2:
            raise RelayError(f"guidance_width is {self.guidance_width}, must be even, 4 or more")
        if self.rank < 0:
            raise RelayError(f"rank is {self.rank}, must be above 0, or 0 for all weights")
        within(0, 1, through_vae=self.through_vae)

    @property
    def teacher_steps_each(self) -> int:
        """The teacher's steps to one of the student's, of the first round."""
        return 2 if self.method == "halving" else self.teacher_steps // self.rounds[0].num_steps

    def levels(self, schedule: NoiseSchedule, num_steps: int) -> tuple[Tensor, Tensor | None]:
        """Noise levels and relay fractions of a run of the stage, (num_steps + 1,) each; a run of
        a fraction of the steps goes by some of them. The base stage has no fractions."""
        if self.stage == "base":
            return schedule.sample_sigmas(num_steps), None
        sigmas = schedule.relay_sigmas(num_steps, self.start)
        return sigmas, torch.linspace(1, 0, num_steps + 1, device=sigmas.device)

    def drawn_guidance(self, draws: Draws) -> Tensor:
        """A scale for each sample, uniform in ``guidance``, (B,)."""
        low, high = self.guidance
        return low + (high - low) * draws.uniform("guidance")

    def weight(self, sigma: Tensor) -> Tensor:
        """Of |D - D*|^2, as ``weighting`` says."""
        if self.weighting == "truncated_snr":
            return truncated_snr_weight(sigma)
        return 1 / sigma**2 + (1.0 if self.weighting == "v" else 0.0)


@dataclass(frozen=True)
class DistillRecipe(Recipe):
    """The teacher's folder takes the place of the ``model`` table. ``model.unet`` is the student of
    the round before, in every round but the first."""

    objective: DistillObjective = field(default_factory=DistillObjective)

    def __post_init__(self) -> None:
        super().__post_init__()
        if replace(self.model, unet="") != Model():
            raise RelayError(
                "a distillation has the networks of objective.teacher, and nothing of the model "
                "table: leave it out"
            )
        insist_on_pictures(self.objective.redraw, self.data)


def rounds_of(recipe: DistillRecipe) -> Iterator[DistillRecipe]:
    """One recipe for each round, in the folders NAME_16, NAME_8, ... by the student's steps, and
    NAME_8_matched, NAME_8_matched_2, ... of those that match; for the relay, with the teacher's
    start level.

    Raises: RelayError if the teacher cannot be read, never learned what it would be asked for, or
        has another start than the recipe.
    """
    objective = recipe.objective
    folder = resolve(objective.teacher)
    index, _ = read_cascade(folder, "objective.teacher")
    insist_on_learned(objective, index)
    insist_on_width(objective, folder)
    if "critic" in recipe.optimizer.scales:
        raise RelayError(
            "optimizer.scales.critic has no effect, critic_lr of a round says how fast its critic "
            "learns: leave it out"
        )
    if objective.stage == "relay":
        objective = replace(objective, start=start_of_teacher(objective, index))
    before, num_matched = "", 0
    for one in objective.rounds:
        name = f"{recipe.run.name}_{one.num_steps}"
        num_matched = num_matched + 1 if one.matches else 0
        if one.matches:
            name += "_matched" + (f"_{num_matched}" if num_matched > 1 else "")
        lr = one.lr or recipe.optimizer.lr
        scales = dict(recipe.optimizer.scales)
        if one.matches:
            scales["critic"] = one.critic_lr / lr if one.critic_lr else 5.0
        step = replace(
            recipe,
            run=replace(recipe.run, name=name, steps=one.steps),
            model=replace(recipe.model, unet=before),
            optimizer=replace(recipe.optimizer, lr=lr, scales=scales),
            objective=replace(objective, rounds=(one,)),
        )
        yield step
        before = str(step.folder / "export" / f"{objective.stage}_unet")
