"""Suites: fixed lists of prompts to measure models with."""

from __future__ import annotations

import difflib
from pathlib import Path

from relay_diffusion.data.scenes.world import World
from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.suites.files import free_suite, prompt_file
from relay_diffusion.evaluation.suites.prompt import Prompt, Suite
from relay_diffusion.evaluation.suites.public import PUBLIC, public_suite
from relay_diffusion.evaluation.suites.scenes import NUM_PROMPTS, scenes_suite, tasks_suite

__all__ = ["Prompt", "Suite", "open_suite", "scenes_suite", "tasks_suite"]

NAMES = ("scenes", "tasks", "free", *PUBLIC)


def open_suite(name: str, world: World, num_prompts: int | None = None) -> Suite:
    """A suite by name, or the user's own file.

    Args:
        name: one of ``NAMES``, or a file with a prompt a line (or JSONL).
        world: that "scenes" and "tasks" are drawn from.
        num_prompts: its first so many; None is all, of "scenes" and "tasks" 200.
    Raises: RelayError if there is no such suite, or it cannot be read.
    """
    if name == "scenes":
        return scenes_suite(world, num_prompts or NUM_PROMPTS)
    if name == "tasks":
        return tasks_suite(world, num_prompts or NUM_PROMPTS)
    if name == "free":
        return free_suite().first(num_prompts)
    if name in PUBLIC:
        return public_suite(name).first(num_prompts)
    if Path(name).is_file():
        return prompt_file(Path(name)).first(num_prompts)
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"suites are {', '.join(NAMES)}, or a file"
    raise RelayError(f"there is no suite or file {name!r}; {hint}")
