"""What was found out about a data set, kept in the user's cache until its files change.

In the cache rather than beside the data, which may be read-only, shared, or itself listed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from relay_diffusion.files import put

Arrays = dict[str, np.ndarray[Any, Any]]

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/relay-diffusion/pictures``, or the same under ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "relay-diffusion" / "pictures"


def kept(kind: str, files: Iterable[Path], build: Callable[[], Arrays]) -> Arrays:
    """``build()``, or what it gave when the files had the same sizes and times of change.

    A cache that cannot be written costs the time of building, and a line that says so.
    """
    name, state = fingerprint(files)
    path = cache_folder() / f"{name}.{kind}.npz"
    stamp = np.frombuffer(state.encode(), np.uint8)
    try:
        with np.load(path) as found:
            if np.array_equal(found["state"], stamp):
                return {key: found[key] for key in found.files if key != "state"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # none yet, or one that was cut short
    arrays = build()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with put(path) as new, new.open("wb") as file:
            np.savez(file, state=stamp, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        log.warning("%s not written (%s), so it is made again each time", path, error.strerror)
    return arrays


def fingerprint(files: Iterable[Path]) -> tuple[str, str]:
    """A name for a list of files, and one for the state they are in."""
    names, states = hashlib.blake2b(digest_size=8), hashlib.blake2b(digest_size=16)
    for file in files:
        names.update(os.fsencode(file.absolute()) + b"\0")
        try:
            found = file.stat()
            states.update(f"{found.st_size} {found.st_mtime_ns}\0".encode())
        except OSError:
            states.update(b"gone\0")
    return names.hexdigest(), states.hexdigest()


def packed(values: Any) -> np.ndarray[Any, Any]:
    """Anything of JSON as an array of bytes: strings of an array are all as long as the longest."""
    return np.frombuffer(json.dumps(values).encode(), np.uint8)


def unpacked(array: np.ndarray[Any, Any]) -> Any:
    return json.loads(array.tobytes())
