"""A file is as it was, or as it shall be, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay_diffusion.errors import RelayError
from relay_diffusion.files import SUFFIX, put


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside to write to, which takes the place of ``path`` in the end if all went well.

    Its name is hidden and always the same: no reader takes it for data, and what a killed process
    left there is written over.

    Raises: RelayError if the disk is full or the folder cannot be written.
    """
    target = path.resolve()  # a link stays a link
    try:
        with put(target, target.with_name(f".{target.name}{SUFFIX}")) as new:
            yield new
    except OSError as error:
        raise RelayError(
            f"{path} could not be written ({error.strerror or error}) and is as it was; the "
            "captions are kept, and the same command writes them"
        ) from error
