"""Files that are whole or as they were, that one process at a time works on, and their hashes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from relay_diffusion.errors import RelayError

SUFFIX = ".new"


@contextlib.contextmanager
def put(path: Path, aside: Path | None = None) -> Iterator[Path]:
    """A place to write to, which becomes ``path`` when it is on the disk, if all went well; with
    the rights of the file that was there.

    Args:
        aside: that place; by default hidden, beside ``path``, and with a name of its own, so that
            two processes may make the same file.
    Raises: OSError if it cannot be written; ``path`` is then as it was.
    """
    new = aside or path.with_name(f".{path.name}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        yield new
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def put_text(path: Path, text: str) -> None:
    with put(path) as new:
        new.write_text(text, encoding="utf-8")


def link_folder(folder: Path, new: Path) -> None:
    """The files of a folder once more, in ``new``: the same ones by another name, or where the file
    system has no such links, copies. Raises: OSError."""
    new.mkdir()
    for file in folder.iterdir():
        try:
            os.link(file, new / file.name)
        except OSError:
            shutil.copy2(file, new / file.name)


def sweep(folder: Path) -> None:
    """Delete what killed writers left behind."""
    for leftover in folder.glob(f".*{SUFFIX}"):
        leftover.unlink(missing_ok=True)


def lock(file: IO[Any], refusal: str) -> None:
    """Keep other processes from locking ``file``, until it is closed or the process ends, however.
    Windows, which has no fcntl, does without.

    Raises: RelayError, saying ``refusal``, if another one has it.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RelayError(refusal) from error


def sha256_of(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
