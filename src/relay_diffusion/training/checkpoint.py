"""Checkpoints that are whole or not there: written aside, flushed to disk, renamed into place."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from relay_diffusion.errors import RelayError

STATE = "state.pt"


class Checkpoints:
    """The checkpoints of a run, ``folder/step-00001000`` and so on.

    A folder with such a name is complete, whenever the writer was killed; what it was busy with has
    a name that starts with a dot and is swept away by the next writer.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def steps(self) -> list[int]:
        """Of the complete checkpoints, ascending."""
        names = [path.name for path in self.folder.glob("step-*") if (path / STATE).is_file()]
        return sorted(int(name.removeprefix("step-")) for name in names)

    def newest(self) -> Path | None:
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, state: dict[str, Any], recipe: str) -> Path:
        """Write a checkpoint, then drop all but the newest ``keep``.

        Args:
            step: optimiser steps done.
            state: of tensors and plain values, as ``torch.load(weights_only=True)`` reads.
            recipe: the resolved recipe, TOML.
        Raises: RelayError if it could not be written (a full disk, say); older ones are untouched.
        """

        def write(folder: Path) -> None:
            with open(folder / STATE, "wb") as file:
                torch.save(state, file)
            (folder / "recipe.toml").write_text(recipe)

        path = self.path(step)
        if step in self.steps():
            return path  # a resumed run stopped before its first step
        try:
            self._sweep()
            put_folder(path, write)
        except OSError as error:
            older = self.steps()
            kept = f"the one of step {older[-1]} stays" if older else "there is no older one"
            raise RelayError(
                f"checkpoint of step {step} not written to {self.folder} ({reason(error)}): {kept}"
            ) from error
        for old in self.steps()[: -self.keep]:
            remove_folder(self.path(old))
        return path

    def load(self) -> dict[str, Any] | None:
        """State of the newest checkpoint, on the CPU, or None if there is none.

        Raises: RelayError if it is damaged, or holds anything but tensors and plain values.
        """
        newest = self.newest()
        if newest is None:
            return None
        try:
            state: dict[str, Any] = torch.load(
                newest / STATE, map_location="cpu", weights_only=True
            )
        except (pickle.UnpicklingError, RuntimeError, OSError) as error:
            raise RelayError(
                f"{newest} is refused, it is damaged or no checkpoint of ours: "
                "move it away to go on from the one before"
            ) from error
        return state

    def _sweep(self) -> None:
        for leftover in self.folder.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)


def put_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Make the folder ``path``, in place of an older one, with what ``write`` puts into it.

    It is written beside, as ``.<name>.new``, and renamed when all of it is on the disk. Raises
    OSError, then with ``path`` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir()
        write(new)
        for folder, _, names in os.walk(new):
            for name in names:
                _flush(Path(folder) / name)
            _flush(Path(folder))
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if path.exists():
        remove_folder(path)
    os.rename(new, path)
    _flush(path.parent)


def remove_folder(path: Path) -> None:
    """Delete a folder so that it is never half there under its own name."""
    doomed = path.with_name(f".{path.name}.old")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def reason(error: OSError) -> str:
    """In words, for the user."""
    if error.errno == errno.ENOSPC:
        return "no space left on the disk"
    return error.strerror or str(error)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
