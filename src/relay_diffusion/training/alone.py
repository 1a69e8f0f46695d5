"""One run at a time in a folder: two would sweep away each other's checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from relay_diffusion import locks
from relay_diffusion.errors import RelayError
from relay_diffusion.training import distributed


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Inside, no other run may begin in ``folder``; the main process holds it for all of its group.

    Raises: RelayError, in all of them, if another run is at work there, or it cannot be written to.
    """
    error: RelayError | None = None
    with contextlib.ExitStack() as held:
        if distributed.is_main():
            refusal = (
                f"another run is at work in {folder}: wait for it, or give this one another name "
                "with --set run.name=..."
            )
            try:
                held.enter_context(locks.alone_in(folder, refusal))
            except RelayError as refused:
                error = refused
        if distributed.any_of(error is not None):
            raise error or RelayError(f"the main process cannot begin a run in {folder}")
        yield
