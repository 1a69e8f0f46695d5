"""Checkpoints that are whole or not there: written aside, flushed to disk, renamed into place.

They are torch.distributed.checkpoint's, in safetensors files, one of each process: reading one runs
no code, and a run may go on with another number of processes.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)

from relay_diffusion.errors import RelayError
from relay_diffusion.models.fitting import shapes_of, unlike
from relay_diffusion.training import distributed

RECIPE = "recipe.toml"


class Misfit(RelayError):
    """A checkpoint that holds other tensors than the run has."""


class Checkpoints:
    """The checkpoints of a run, ``folder/step-00001000`` and so on.

    A folder with such a name is complete, whenever the writer was killed; what it was busy with has
    a name that starts with a dot and is swept away by the next writer.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self._step = 0
        self._writing: Future[object] | None = None

    def steps(self) -> list[int]:
        """Of the complete checkpoints, ascending."""
        return sorted(
            int(path.name.removeprefix("step-"))
            for path in self.folder.glob("step-*")
            # Not one that was moved away, as to step-00001000.bad.
            if re.fullmatch(r"step-\d{8,}", path.name) and (path / RECIPE).is_file()
        )

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def recipe(self, step: int) -> str:
        """That of a complete checkpoint, TOML."""
        return (self.path(step) / RECIPE).read_text(encoding="utf-8")

    def save(self, step: int, state: Mapping[str, Tensor], recipe: str) -> None:
        """Begin to write a checkpoint; the run may go on and change the tensors meanwhile. It is in
        place, and all but the newest ``keep`` are gone, once :meth:`settle` has said so.

        Args:
            step: optimiser steps done.
            state: tensors by name, each process its parts of those that are sharded.
            recipe: the resolved recipe, TOML.
        Raises: RelayError, in all processes, if it cannot be begun, or for the one before, if that
            could not be written.
        """
        self.settle()
        self._step = step
        error = distributed.failure(self._begin(recipe) if distributed.is_main() else None)
        if error is not None:
            raise self._not_written(error) from error
        _hush()
        future = dcp.async_save(
            dict(state),
            storage_writer=HuggingFaceStorageWriter(str(self._aside()), save_distributed=True),
            process_group=distributed.beside(),
            no_dist=distributed.world_size() == 1,
        )
        assert isinstance(future, Future)
        self._writing = future

    def settle(self, wait: bool = True) -> None:
        """Put the checkpoint that is being written in its place, if it is written; without
        ``wait``, look and come back. With it, all processes have to ask, and all hear the same.

        Raises: RelayError if it could not be written (a full disk, say); older ones are untouched.
        """
        error: BaseException | None = None
        if self._writing is not None and (wait or self._writing.done()):
            future, self._writing = self._writing, None
            error = self._finish(future)
        if wait:
            error = distributed.failure(error)
        if error is not None:
            raise self._not_written(error) from error

    def load(self, state: Mapping[str, Tensor]) -> int | None:
        """Fill ``state``, in place, from the newest checkpoint; its step, or None if there is none.

        Raises: RelayError if it is damaged, or holds other tensors.
        """
        steps = self.steps()
        if not steps:
            return None
        path = self.path(steps[-1])
        reader = HuggingFaceStorageReader(str(path))
        try:
            stored = reader.read_metadata().state_dict_metadata
            sizes = {name: value.size for name, value in stored.items()}  # type: ignore[union-attr]
            problems = unlike(sizes, shapes_of(state))
            if problems:
                raise Misfit(
                    f"{path} does not fit the networks of this recipe; {problems}; its own are in "
                    f"{path / RECIPE}"
                )
            _hush()
            dcp.load(dict(state), storage_reader=reader, no_dist=distributed.world_size() == 1)
        except RelayError:
            raise
        except (SafetensorError, CheckpointException, OSError, KeyError, ValueError) as error:
            raise RelayError(
                f"{path} is refused, it is damaged or no checkpoint of ours: "
                "move it away to go on from the one before"
            ) from error
        return steps[-1]

    def _begin(self, recipe: str) -> Exception | None:
        """Sweep, and make a place to write to."""
        try:
            for leftover in self.folder.glob(".*"):
                shutil.rmtree(leftover, ignore_errors=True)
            self._aside().mkdir(parents=True)
            (self._aside() / RECIPE).write_text(recipe, encoding="utf-8")
        except OSError as error:
            shutil.rmtree(self._aside(), ignore_errors=True)
            return error
        return None

    def _finish(self, future: Future[object]) -> BaseException | None:
        try:
            future.result()
            # The main process hears of success when all have written.
            if distributed.is_main():
                rename_whole(self._aside(), self.path(self._step))
                for old in self.steps()[: -self.keep]:
                    remove_folder(self.path(old))
        except (OSError, CheckpointException) as error:
            if distributed.is_main():
                shutil.rmtree(self._aside(), ignore_errors=True)
            return error
        return None

    def _aside(self) -> Path:
        return self.folder / f".{self.path(self._step).name}.new"

    def _not_written(self, error: BaseException) -> RelayError:
        older = self.steps()
        kept = f"the one of step {older[-1]} stays" if older else "there is no older one"
        what = f"checkpoint of step {self._step} not written to {self.folder}"
        return RelayError(f"{what} ({reason(error)}): {kept}")


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
        rename_whole(new, path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def rename_whole(new: Path, path: Path) -> None:
    """Put the folder ``new`` in the place of ``path``, when all of it is on the disk."""
    for folder, _, names in os.walk(new):
        for name in names:
            _flush(Path(folder) / name)
        _flush(Path(folder))
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


def reason(error: BaseException) -> str:
    """In words, for the user."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            return "no space left on the disk"
        return error.strerror or str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _hush() -> None:
    """One process alone is what is meant; the library warns of it, from a thread of its own."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
