"""One process at a time: in a folder, at a file, for a task that others wait for."""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from relay_diffusion.errors import RelayError

log = logging.getLogger(__name__)

LOCK = ".lock"
"""In a folder that one run at a time works in."""

_held: weakref.WeakSet[IO[Any]] = weakref.WeakSet()


@contextlib.contextmanager
def alone_in(folder: Path, refusal: str) -> Iterator[None]:
    """Inside, no other process may begin in ``folder``, which is made if it is not there.

    Raises: RelayError, saying ``refusal``, if another one is at work there, or if it cannot be
        written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise RelayError(f"cannot write to {folder}: {error.strerror or error}") from error
    with file:
        lock(file, refusal)
        yield


def lock(file: IO[Any], refusal: str) -> None:
    """Keep other processes from locking ``file``, until it is closed or the process ends, however.

    Raises: RelayError, saying ``refusal``, if another one has it.
    """
    if not _locked(file, wait=False):
        raise RelayError(refusal)


def _let_go() -> None:
    """In a forked process, such as a worker of a data loader, which would hold the locks of the
    process that it was forked from, for as long as it outlives that."""
    for file in list(_held):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """One process at a time, with the others waiting, by a file that is there meanwhile; each for
    itself where that cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError:
        yield
        return
    with file:
        _locked(file, wait=True)
        try:
            yield
        finally:
            # Whoever waits for this very file finds what was built, and builds no more. Windows
            # does not let it go while it is open.
            with contextlib.suppress(OSError):
                path.unlink()


def _locked(file: IO[Any], wait: bool) -> bool:
    """Lock a file, unless another process has and is not waited for. Without a lock it goes on
    where there are none: on Windows, and on some network disks, of which it warns."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        log.warning(
            "%s cannot be locked (%s): nothing keeps other processes from the same work",
            file.name,
            error.strerror,
        )
    _held.add(file)
    return True
