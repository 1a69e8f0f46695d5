"""Suites of the generated world, in combinations that no training picture showed, so that every
picture can be judged against a known truth."""

from __future__ import annotations

from typing import get_args

from relay_diffusion.data.scenes.captions import scene_prompt
from relay_diffusion.data.scenes.scene import Scene
from relay_diffusion.data.scenes.world import Task, World
from relay_diffusion.evaluation.suites.prompt import Prompt, Suite

SUITE_SEED = 1_000_003
"""Scenes of the suite have seeds from here on: fixed for good, so that scores can be compared."""

TASKS_SEED = 2_000_003
"""The same for the suite by task."""

TASKS: tuple[Task, ...] = get_args(Task)
NUM_PROMPTS = 200


def scenes_suite(world: World, num_prompts: int = NUM_PROMPTS) -> Suite:
    """Any held-out scenes. The prompts are short, and name all that is judged."""

    def scene_at(index: int) -> Scene:
        return world.sample(SUITE_SEED + index, "held-out")

    scenes = [scene_at(index) for index in range(num_prompts)]
    prompts = tuple(
        Prompt(scene_prompt(scene), scene, str(index)) for index, scene in enumerate(scenes)
    )
    return Suite("scenes", prompts, _source(SUITE_SEED), scene_at)


def tasks_suite(world: World, num_prompts: int = NUM_PROMPTS) -> Suite:
    """Held-out scenes that each pose one task, the tasks of GenEval (arXiv:2310.11513) with style
    and background; tasks take turns, so that any number of prompts is balanced."""

    def scene_at(index: int) -> Scene:
        return world.sample(TASKS_SEED + index, "held-out", TASKS[index % len(TASKS)])

    scenes = [scene_at(index) for index in range(num_prompts)]
    prompts = tuple(
        Prompt(scene_prompt(scene), scene, str(index), TASKS[index % len(TASKS)])
        for index, scene in enumerate(scenes)
    )
    return Suite("tasks", prompts, _source(TASKS_SEED), scene_at)


def _source(seed: int) -> dict[str, str]:
    return {"file": f"World.sample from seed {seed}, held-out", "licence": "Apache-2.0"}
