"""Files that are whole or as they were, where they lie, and their hashes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

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


def cache_folder(kind: str) -> Path:
    """``relay-diffusion/KIND`` in ``$XDG_CACHE_HOME``, or in ``~/.cache``; it need not be there."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "relay-diffusion" / kind


def files_below(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """All files of a folder and its subfolders, linked ones too, in one order; none that is hidden,
    or in a hidden folder. What cannot be listed is passed over, as is a link to a folder that it
    lies in, which would have no end.

    Args:
        above: device and number of the folders that it lies in, by way of links.
    """
    try:
        state = folder.stat()
        with os.scandir(folder) as found:
            entries = {entry.name: entry for entry in found if not entry.name.startswith(".")}
    except OSError:
        return
    here = (state.st_dev, state.st_ino)
    if here in above:
        return
    folders = []
    for name, entry in sorted(entries.items()):
        path = folder / name
        if path.is_dir() if entry.is_symlink() else entry.is_dir():
            folders.append(path)
        else:
            yield path
    for path in folders:
        yield from files_below(path, above | {here})


def sweep(folder: Path, name: str = "") -> None:
    """Delete what killed writers left behind, of files whose names begin so."""
    for leftover in folder.glob(f".{name}*{SUFFIX}"):
        leftover.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
