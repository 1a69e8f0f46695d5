"""What the teacher of a distillation can be asked for, by what its cascade says of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay_diffusion.errors import RelayError
from relay_diffusion.models.folder import (
    part_folder,
    read_json,
    relay_blur_of,
    relay_start_of,
)

if TYPE_CHECKING:
    from relay_diffusion.training.rounds import DistillObjective


def insist_on_learned(settings: DistillObjective, index: Mapping[str, Any]) -> None:
    """Raises: RelayError for a teacher that is a student, in other than its own steps and range."""
    stage, teacher = settings.stage, settings.teacher
    learned = index.get(f"trained_{stage}_steps")
    taken = settings.teacher_steps_each * settings.rounds[0].num_steps
    if learned and any(one.matches for one in settings.rounds):
        raise RelayError(
            f"the {stage} stage of {teacher} is a student of {learned} steps, and a round that "
            "matches asks its teacher at every noise level: name the cascade that it was made of"
        )
    if learned and taken != learned:
        raise RelayError(
            f"the {stage} stage of {teacher} is a student of {learned} steps, and would be run for "
            f"{taken}: name the cascade that it was made of, or begin with half of its steps"
        )
    known = index.get("guidance_range" if stage == "base" else "relay_guidance_range")
    low, high = settings.guidance
    if known and not known[0] <= low <= high <= known[1]:
        raise RelayError(
            f"objective.guidance is {[low, high]}, and the {stage} stage of {teacher} knows "
            f"{list(known)} only: stay within"
        )


def insist_on_width(settings: DistillObjective, folder: Path) -> None:
    """Raises: RelayError for a width of the scale's embedding where the teacher in ``folder`` has
    one, which its student keeps."""
    unet = part_folder(folder, f"{settings.stage}_unet")
    width = read_json(folder, unet / "config.json").get("time_cond_proj_dim")
    if width is not None and settings.guidance_width not in (width, type(settings).guidance_width):
        raise RelayError(
            f"objective.guidance_width is {settings.guidance_width}, and {settings.teacher} is "
            f"told the scale by an embedding of {width} already: leave it out"
        )


def start_of_teacher(settings: DistillObjective, index: Mapping[str, Any]) -> float:
    """T_r of the relay that is distilled.

    Raises: RelayError if it is of no linear blur schedule, or the recipe has another start.
    """
    blur = relay_blur_of(index)
    if blur != "linear":
        raise RelayError(
            f"the relay of {settings.teacher} has the blur schedule {blur!r}, and only linear ones "
            "are distilled: fine-tune it with objective.blur = 'linear' first"
        )
    start = relay_start_of(index)
    if settings.start not in (0, start):
        raise RelayError(
            f"objective.start is {settings.start:g}, but the relay of {settings.teacher} was "
            f"trained for {start:g}: leave start out, or fine-tune the teacher with T_r = "
            f"{settings.start:g} first (docs/distillation.md)"
        )
    return start
