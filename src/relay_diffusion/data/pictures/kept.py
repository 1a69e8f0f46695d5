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

from relay_diffusion.files import cache_folder, put
from relay_diffusion.locks import one_at_a_time

Arrays = dict[str, np.ndarray[Any, Any]]

log = logging.getLogger(__name__)


def kept(
    kind: str,
    files: Iterable[Path],
    build: Callable[[], Arrays],
    lasts: Callable[[Arrays], bool] = lambda arrays: True,
) -> Arrays:
    """``build()``, or what it gave when the files had the same sizes and times of change.

    Of several processes that want it one builds, and the others wait and take what it wrote. A
    cache that cannot be written costs the time of building, and a line that says so.

    Args:
        lasts: whether what was built may be kept; otherwise, or if the files change meanwhile, it
            is for those that waited, who have to agree, and built anew by all others.
    """
    files = list(files)
    name, state = fingerprint(files)
    path = cache_folder("pictures") / f"{name}.{kind}.npz"
    before = _version(path)
    found = _found(path, state)
    if found is not None:
        return found
    with one_at_a_time(path.with_suffix(".lock")):
        found = _found(path, state, passing=_version(path) != before)
        if found is not None:
            return found
        arrays = build()
        passing = not lasts(arrays) or fingerprint(files)[1] != state
        stamp = np.frombuffer(state.encode(), np.uint8)
        try:
            with put(path) as new, new.open("wb") as file:
                np.savez(file, state=stamp, passing=np.array(passing), **arrays)  # type: ignore[arg-type]
        except OSError as error:
            log.warning("%s not written (%s), so it is made again each time", path, error.strerror)
        return arrays


def _found(path: Path, state: str, passing: bool = False) -> Arrays | None:
    """What is in ``path``, if it is of this state, and lasts unless ``passing`` will do."""
    try:
        with np.load(path) as found:
            if found["state"].tobytes() != state.encode() or (found["passing"] and not passing):
                return None
            return {key: found[key] for key in found.files if key not in ("state", "passing")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # none yet, or one that was cut short


def _version(path: Path) -> tuple[int, int] | None:
    """Another one whenever the file is written; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


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
