"""A cascade's folder that is there when it is complete, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from relay_diffusion.errors import RelayError


def insist_on_new(out: Path) -> None:
    """Raise RelayError for a folder that holds something already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RelayError(f"{out} exists already: give a new folder, or remove it")


@contextmanager
def complete_or_absent(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into, renamed to ``out`` at the end, or else removed. What
    is named as seen from one of them is the same from the other.

    Raises: RelayError if ``out`` holds something already, or cannot be written.
    """
    insist_on_new(out)
    whole = out.absolute()
    partial = whole.with_name(f".{whole.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        yield partial
        os.replace(partial, whole)
    except (OSError, SafetensorError) as error:
        raise RelayError(f"{out} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
