"""A cascade's folder: what it says of itself, and where its parts lie."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relay_diffusion.errors import RelayError
from relay_diffusion.models.hub import download, is_hub_id
from relay_diffusion.models.registry import INDEX, PACKAGED, resolve

PARTS = ("text_encoder", "tokenizer", "vae", "base_unet", "relay_unet", "scheduler")

# What holds for a cascade that does not say; also the defaults of RelayPipeline.__init__.
MAX_TOKENS = 225
RELAY_BLUR = "linear"
RELAY_START = 500


def read_json(folder: Path, file: Path) -> dict[str, Any]:
    """A JSON file of a cascade folder. Raises: RelayError if it is missing or damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        missing = file.relative_to(folder)
        raise RelayError(f"{folder} is no cascade: {missing} is missing") from None
    except (OSError, ValueError) as error:
        raise RelayError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise RelayError(f"{file} holds no table")
    return content


def read_index(folder: Path) -> dict[str, Any]:
    """``model_index.json``: the parts' classes, and what ``RelayPipeline.__init__`` takes.

    Raises: RelayError if it is missing or damaged.
    """
    return read_json(folder, folder / INDEX)


def max_tokens_of(index: Mapping[str, Any]) -> int:
    """Length of prompts, in tokens; ``MAX_TOKENS`` where the cascade does not say."""
    return int(index.get("max_tokens", MAX_TOKENS))


RELAY_NOTE = "relay.json"
"""In the export folder of a relay stage: arguments of a cascade that it was trained for."""

STAGE_NOTE = "stage.json"
"""In the export folder of a stage that was not distilled: the "prediction_type" and the length of
prompts, "max_tokens", that it was trained with, the hash of the "vae" whose latents it knows, and
of a base stage the "base_size"."""

LOW_RANK_NOTE = "low_rank.json"
"""In the export folder of a stage that learned within a difference of low rank: its "rank", and the
hash of the network that it is "of"."""

STUDENT_NOTE = "distilled.json"
"""In the export folder of a student: what it was distilled from, and for which use."""


def read_note(export: Path, name: str) -> dict[str, Any]:
    """What training wrote beside the networks in an export folder; {} if it wrote no such note.

    Raises: RelayError if it is damaged.
    """
    return read_json(export, export / name) if (export / name).is_file() else {}


def relay_blur_of(index: Mapping[str, Any]) -> str:
    """The relay's blur schedule; ``RELAY_BLUR`` where the cascade does not say."""
    return str(index.get("relay_blur", RELAY_BLUR))


def relay_start_of(index: Mapping[str, Any]) -> float:
    """T_r of the relay at its first doubling; ``RELAY_START`` where the cascade does not say."""
    return float((index.get("relay_start") or [RELAY_START])[0])


def is_distilled(name_or_path: str | Path) -> bool:
    """Whether a cascade is of students, so of a few steps itself.

    Raises: RelayError as ``resolve`` and ``read_index``.
    """
    index = read_index(resolve(name_or_path))
    return any(index.get(f"trained_{stage}_steps") for stage in ("base", "relay"))


def related(folder: Path, name: str) -> Path:
    """The folder of a cascade that the one in ``folder`` names: its fast sibling, or the one whose
    parts it shares. As ``resolve``, but that a path is relative to ``folder``.

    Raises: RelayError as ``resolve``, and for a folder that is one from the working directory only:
        the same name would lead elsewhere from another.
    """
    if name in PACKAGED:
        return resolve(name)
    beside = _beside(folder, name)
    if beside.is_dir():
        return beside
    if is_hub_id(name):  # whatever lies in the working directory
        return download(name)
    if Path(name).is_dir():
        raise RelayError(
            f"{folder} names the cascade {name}, as seen from its own folder, and there is no "
            f"{beside}; from there it is {os.path.relpath(name, folder)}"
        )
    return resolve(name)


def seen_from(folder: Path, name: str) -> str:
    """How the cascade in ``folder`` is to name another one, which the user may have named as seen
    from the working directory."""
    if name in PACKAGED or _beside(folder, name).is_dir() or not Path(name).is_dir():
        return name
    return os.path.relpath(name, folder)


def _beside(folder: Path, name: str) -> Path:
    """A path as seen from ``folder``, which may be yet to be made."""
    return Path(os.path.normpath(folder / name))


def part_folder(folder: Path, part: str) -> Path:
    """Where a part of the cascade in ``folder`` lies: there, or in the cascade that it ``shares``;
    there too if nobody has it, to be missed by whoever opens it.

    Raises: RelayError if that cascade cannot be found.
    """
    seen: list[Path] = []
    owner = folder
    while not (owner / part).is_dir():
        seen.append(owner)
        shares = read_index(owner).get("shares") if (owner / INDEX).is_file() else None
        if not shares:
            return folder / part
        owner = related(owner, shares)
        if owner in seen:
            raise RelayError(f"{folder} shares its {part} in a circle, by way of {owner}")
    return owner / part


def shared_parts(folder: Path) -> dict[Path, list[str]]:
    """The parts that the cascade in ``folder`` has from others, by their folders."""
    shared: dict[Path, list[str]] = {}
    for part in PARTS:
        owner = part_folder(folder, part).parent
        if owner != folder:
            shared.setdefault(owner, []).append(part)
    return shared


def fast_sibling(name_or_path: str | Path, revision: str | None = None) -> str:
    """The distilled cascade that was made of this one, named as ``resolve`` takes both.

    Raises: RelayError if it names none.
    """
    folder = resolve(name_or_path, revision)
    name = read_index(folder).get("fast_sibling")
    if not name:
        raise RelayError(
            f"{name_or_path} has no fast sibling: leave --fast out, or distil it "
            "(docs/distillation.md)"
        )
    return str(name) if name in PACKAGED else str(related(folder, name))
