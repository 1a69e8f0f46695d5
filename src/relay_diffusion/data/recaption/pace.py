"""So many requests a minute, and no more."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Spreads requests evenly, so that a limit holds over any minute.

    Args:
        per_minute: None for no limit.
    """

    def __init__(self, per_minute: float | None = None) -> None:
        self._apart = 60 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        """Returns when the next request may go."""
        now = time.monotonic()
        at = max(now, self._next)
        self._next = at + self._apart
        await asyncio.sleep(at - now)
