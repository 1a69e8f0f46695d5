"""Files that are whole or not there, whoever is killed while writing them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from relay_diffusion.errors import RelayError

SUFFIX = ".new"


@contextlib.contextmanager
def put(path: Path) -> Iterator[Path]:
    """A place to write to, which becomes ``path`` when it is on the disk. Its name is its own, so
    that two processes may make the same file."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        yield new
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the lock goes with the process, however it ends.

    Raises: RelayError if another run is in it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RelayError(
                f"another relay prepare is at work in {folder}: wait for it, or give another --out"
            ) from error
        yield


def put_text(path: Path, text: str) -> None:
    with put(path) as new:
        new.write_text(text, encoding="utf-8")


def sweep(folder: Path) -> None:
    """Delete what killed writers left behind."""
    for leftover in folder.glob(f".*{SUFFIX}"):
        leftover.unlink(missing_ok=True)
