"""Files of others, fetched once into the user's cache."""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from relay_diffusion.errors import RelayError

TIMEOUT = 30
"""Seconds without an answer after which fetching is given up."""


def fetch(
    url: str,
    path: Path,
    member: str | None = None,
    check: Callable[[Path], object] = lambda path: None,
) -> Path:
    """``path``, fetched from ``url`` if it is not there; it appears whole or not at all.

    Args:
        member: the file to take out of the zip archive that ``url`` is.
        check: raises ValueError if what was fetched is not what it should be; it is not kept then.
    Raises: RelayError that says which file to put where, if it cannot be fetched.
    """
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
            part = Path(folder) / "part"
            with urllib.request.urlopen(url, timeout=TIMEOUT) as source, part.open("wb") as file:
                shutil.copyfileobj(source, file)
                _check_length(file.tell(), source.headers.get("Content-Length"))
            if member is not None:
                archive = part.rename(part.with_name("archive"))
                with (
                    zipfile.ZipFile(archive) as zipped,
                    zipped.open(member) as inside,
                    part.open("wb") as file,
                ):
                    shutil.copyfileobj(inside, file)
            check(part)
            os.replace(part, path)
    except (OSError, HTTPException, ValueError, KeyError, zipfile.BadZipFile) as error:
        what = f"{member} of {url}" if member else url
        raise RelayError(
            f"{url} cannot be fetched ({error}); fetch it elsewhere and put {what} at {path}"
        ) from error
    return path


def _check_length(num: int, promised: str | None) -> None:
    """A connection that breaks off looks like the end of the file to whoever only copies."""
    if promised is not None and num != int(promised):
        raise ValueError(f"it broke off after {num} of {promised} bytes")
