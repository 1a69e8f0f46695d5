"""When a run ends before its last step: asked to, in place of dying, or out of time."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass
from typing import Any

from relay_diffusion.training import distributed
from relay_diffusion.training.recipe import Run

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Stop:
    """Whether a run ends with a step, the same in all processes.

    Attributes:
        leave: it does.
        hurried: before its last step and by SIGTERM, whose sender does not wait for long: the
            checkpoint is all that is written.
    """

    leave: bool
    hurried: bool


class Stopping:
    """Collects SIGTERM and the first Ctrl-C while inside, in place of dying; a second Ctrl-C
    interrupts. The run's time counts from when this is made."""

    def __init__(self, run: Run) -> None:
        self._num_steps = run.steps
        self._max_seconds = run.max_minutes * 60
        self._begun = time.monotonic()
        self._asked: list[str] = []
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopping:
        with contextlib.suppress(ValueError):  # in a thread, where signals cannot be caught
            self._old = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def after(self, step: int) -> Stop:
        """Whether the run ends with ``step`` = 1, 2, ... Every process has to ask."""
        done = step == self._num_steps
        leave = done or distributed.any_of(self._out_of_time() or bool(self._asked))
        return Stop(leave, leave and not done and self.asked_to_hurry())

    def asked_to_hurry(self) -> bool:
        """Whether SIGTERM has come, to any process; every one has to ask."""
        return distributed.any_of("SIGTERM" in self._asked)

    def why(self) -> str:
        """What ended the run, as this process knows it."""
        if self._asked:
            return f"asked by {self._asked[0]}"
        if self._out_of_time():
            return f"after {self._max_seconds / 60:g} minutes"
        return "as another process was asked to, or out of time"

    def _out_of_time(self) -> bool:
        return 0 < self._max_seconds < time.monotonic() - self._begun

    def _note(self, number: int, frame: Any) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked.append(signal.Signals(number).name)
