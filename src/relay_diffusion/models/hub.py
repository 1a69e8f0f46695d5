"""Cascades of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError, first_line

HUB_SETTINGS = ("cache_dir", "force_download", "local_files_only", "token", "proxies")
"""Arguments of diffusers' ``from_pretrained`` that say how to download."""

_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "README.md"]


def is_hub_id(name: str) -> bool:
    """Whether it has the form of one, "owner/name"."""
    return _ID.fullmatch(name) is not None


def name_of(folder: Path) -> str:
    """What a cascade is called: its id if the folder is of the hub's cache, else the folder's name.

    The cache is laid out as models--OWNER--NAME/snapshots/COMMIT.
    """
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return folder.name


def download(hub_id: str, revision: str | None = None) -> Path:
    """The folder of a repository, downloaded unless it is there already, as :func:`downloading`
    says. Raises: RelayError if the hub gives none."""
    return _download.get()(hub_id, revision)


@contextmanager
def downloading(proxies: Any = None, **settings: Any) -> Iterator[None]:
    """Within it, everything from the hub comes as these ``HUB_SETTINGS`` say, and once: a cascade
    may name another in whose parts it is asked for several times.

    Raises: RelayError for proxies, which the hub's library takes from the environment only.
    """
    if proxies:
        raise RelayError("huggingface_hub takes no proxies: set HTTPS_PROXY in the environment")
    if not settings and _download.get() is not _snapshot:  # those that are in force stay
        yield
        return
    before = _download.set(cache(partial(_snapshot, **settings)))
    try:
        yield
    finally:
        _download.reset(before)


def _snapshot(hub_id: str, revision: str | None, **settings: Any) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(hub_id, revision=revision, allow_patterns=_WANTED, **settings)
        )
    except Exception as error:  # no network, no such repository, no permission, disk full
        first = first_line(error)
        raise RelayError(f"there is no folder {hub_id}, and the hub gave none: {first}") from error


_download: ContextVar[Callable[[str, str | None], Path]] = ContextVar(
    "_download", default=_snapshot
)
