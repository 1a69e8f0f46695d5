"""What a callback may read and change of the run in progress, and another thread may end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from diffusers import DiffusionPipeline

from relay_diffusion.errors import RelayError


@dataclass
class StageInProgress:
    """The stage that a run is at.

    Attributes:
        num_timesteps: its steps.
        guidance_scale: of its next step.
    """

    num_timesteps: int
    guidance_scale: float


# Of the thread, not of the pipeline: a pipeline may be in use by several, each at its own stage.
_stage: ContextVar[StageInProgress | None] = ContextVar("_stage", default=None)


@contextmanager
def in_progress(stage: StageInProgress) -> Iterator[None]:
    """Within it, ``stage`` is what pipelines tell, and what is set of them, in this thread."""
    before = _stage.set(stage)
    try:
        yield
    finally:
        _stage.reset(before)


class InProgress(DiffusionPipeline):
    """The stage that ``RelayPipeline`` is at, by the names that pipelines of diffusers have."""

    _interrupt = False

    @property
    def interrupt(self) -> bool:
        """Set it from a callback or another thread to end the run after the step in progress."""
        return self._interrupt

    @interrupt.setter
    def interrupt(self, value: bool) -> None:
        self._interrupt = value

    @property
    def num_timesteps(self) -> int:
        """Steps of the stage, 0 outside a run."""
        stage = _stage.get()
        return 0 if stage is None else stage.num_timesteps

    @property
    def guidance_scale(self) -> float:
        """Of the stage, from its next step on; the stage after it begins at a scale of its own.
        1 outside a run."""
        stage = _stage.get()
        return 1.0 if stage is None else stage.guidance_scale

    @guidance_scale.setter
    def guidance_scale(self, value: float) -> None:
        stage = _stage.get()
        if stage is None:
            raise RelayError(
                "pipe.guidance_scale is set in callback_on_step_end, for the rest of a stage: "
                "give guidance_scale to the call"
            )
        stage.guidance_scale = value

    # As the callbacks of diffusers' documentation name them.
    _num_timesteps = num_timesteps
    _guidance_scale = guidance_scale
