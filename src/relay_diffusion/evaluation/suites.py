"""Suites: fixed lists of prompts to measure a cascade with.

``scenes`` is drawn from the generated world, in combinations that no training picture showed, so
that every picture can be judged against a known truth.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay_diffusion.data.scenes.captions import scene_prompt
from relay_diffusion.data.scenes.scene import Scene
from relay_diffusion.data.scenes.world import World

SUITE_SEED = 1_000_003
"""Scenes of the suite have seeds from here on: fixed for good, so that scores can be compared."""


@dataclass(frozen=True)
class Prompt:
    """What is asked for, and the truth it is judged by."""

    text: str
    scene: Scene


def scenes_suite(world: World, num_prompts: int) -> list[Prompt]:
    """The first ``num_prompts`` prompts of the suite: short, and naming all that is judged."""
    scenes = [world.sample(SUITE_SEED + index, "held-out") for index in range(num_prompts)]
    return [Prompt(scene_prompt(scene), scene) for scene in scenes]
