"""Cascades by name: those in the package, folders, and the hub."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError
from relay_diffusion.models.hub import download, is_hub_id

PACKAGED = {
    "starter": "the scene world (animals, plants, food, things), trained by this project",
    "starter-fast": "the starter distilled, four steps and one",
}
INDEX = "model_index.json"
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cascade:
    """A cascade that can be named.

    Attributes:
        num_bytes: of its folder; 0 if it is not installed.
        index: what stands in model_index.json; {} if it is not installed.
    """

    name: str
    description: str
    folder: Path
    num_bytes: int
    index: dict[str, Any]


def resolve(name_or_path: str | Path, revision: str | None = None) -> Path:
    """The folder of a cascade.

    Args:
        name_or_path: a registered name, a folder, or a hub id ("owner/name"), which is downloaded
            unless it is there already. A folder of that name goes before the hub, a registered
            name before a folder (write ``./starter`` for that).
        revision: branch, tag or commit of what is on the hub.
    Raises: RelayError if it is none of these. What is in the folder is not looked at.
    """
    name = str(name_or_path)
    if name in PACKAGED:
        folder = _PACKAGE / name
        if not folder.is_dir():
            raise RelayError(f"{name!r} does not come with this installation; name a folder")
        return folder
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise RelayError(f"{name} is a file; a cascade is a folder with {INDEX}")
    if isinstance(name_or_path, str) and is_hub_id(name):
        return download(name, revision)
    near = difflib.get_close_matches(name, PACKAGED, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"names are {', '.join(PACKAGED)}"
    raise RelayError(f"there is no cascade or folder {name!r}; {hint}")


def same_cascade(one: str, other: str) -> bool:
    """Whether two names are of one cascade, which need not be there any more."""
    if one == other or one in PACKAGED or other in PACKAGED:
        return one == other
    return Path(one).expanduser().resolve() == Path(other).expanduser().resolve()


def list_cascades() -> Iterator[Cascade]:
    """All that have a name of their own, installed or not."""
    for name, description in PACKAGED.items():
        folder = _PACKAGE / name
        files = [file for file in folder.rglob("*") if file.is_file()]
        index = json.loads((folder / INDEX).read_text()) if (folder / INDEX).is_file() else {}
        num_bytes = sum(file.stat().st_size for file in files)
        yield Cascade(name, description, folder, num_bytes, index)
