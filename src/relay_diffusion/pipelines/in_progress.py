"""What a callback, or another thread, may read and change of the run in progress."""

from __future__ import annotations

from diffusers import DiffusionPipeline


class InProgress(DiffusionPipeline):
    """The stage that ``RelayPipeline`` is at, by the names that pipelines of diffusers have."""

    _interrupt = False
    _num_timesteps = 0
    _guidance_scale = 1.0

    @property
    def interrupt(self) -> bool:
        """Set it from a callback or another thread to end the run after the step in progress."""
        return self._interrupt

    @interrupt.setter
    def interrupt(self, value: bool) -> None:
        self._interrupt = value

    @property
    def num_timesteps(self) -> int:
        """Steps of the stage."""
        return self._num_timesteps

    @property
    def guidance_scale(self) -> float:
        """Of the stage, from its next step on; the stage after it begins at a scale of its own."""
        return self._guidance_scale

    @guidance_scale.setter
    def guidance_scale(self, value: float) -> None:
        self._guidance_scale = value
