"""What a prepared folder says of itself.

FOLDER/plan.json          what was asked, from the start: another run must ask the same
FOLDER/checks/00000.json  what the first pass found, a range of records each
FOLDER/shards/00000.tar   the samples of that range, WebDataset; 00000.json says where they lie
FOLDER/left-out.jsonl     pictures that are not in the shards, and why
FOLDER/manifest.json      when all of it is there
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from relay_diffusion.config import from_dict, to_dict
from relay_diffusion.data.coverage import Coverage
from relay_diffusion.data.prepare.cascade import Encoders
from relay_diffusion.data.prepare.settings import Settings
from relay_diffusion.errors import RelayError
from relay_diffusion.files import put_text

PLAN, MANIFEST, LEFT_OUT = "plan.json", "manifest.json", "left-out.jsonl"
SHOWN = 12
"""Digits of a hash that messages show."""

T = TypeVar("T")


@dataclass(frozen=True)
class Pictures:
    """What is prepared: ``num`` records at ``path``, whose files are in a ``state``."""

    path: str
    num: int
    state: str


@dataclass(frozen=True)
class Plan:
    """All that the shards depend on. ``blocklists``: SHA-256 of words and of domains."""

    settings: Settings
    encoders: Encoders
    pictures: Pictures
    blocklists: str


@dataclass(frozen=True)
class Shard:
    """A tar file of ``num`` samples."""

    name: str
    num: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest(Plan):
    """A finished preparation.

    Attributes:
        model: name of the cascade, as it was given.
        fields: caption fields of the samples.
        buckets: (height, width) by number.
        shards: those with samples, in order.
        left_out: how many pictures, by reason.
        captions: how much of them the networks can read, by field.
    """

    model: str
    fields: tuple[str, ...]
    buckets: tuple[tuple[int, int], ...]
    shards: tuple[Shard, ...]
    left_out: dict[str, int]
    version: int = 1
    captions: dict[str, Coverage] = field(default_factory=dict)

    @property
    def num(self) -> int:
        return sum(shard.num for shard in self.shards)


def read_manifest(folder: Path) -> Manifest:
    """Raises: RelayError if the folder is not prepared to the end."""
    file = folder / MANIFEST
    if not file.is_file():
        todo = "run the same relay prepare again" if (folder / PLAN).is_file() else "relay prepare"
        raise RelayError(f"{folder} is not prepared to the end, there is no {MANIFEST}: {todo}")
    return _read(Manifest, file)


def begin(folder: Path, plan: Plan) -> None:
    """Note the plan in a folder that has none.

    Raises: RelayError, naming what differs, if it has another.
    """
    file = folder / PLAN
    if not file.is_file():
        put_text(file, json.dumps(to_dict(plan), indent=2) + "\n")
        return
    found = _read(Plan, file)
    mine, theirs = dict(_leaves(to_dict(plan))), dict(_leaves(to_dict(found)))
    for name, value in mine.items():
        if theirs.get(name) == value or name == "pictures.path":
            continue
        table, _, key = name.rpartition(".")
        if table == "encoders" and key != "max_tokens":
            differs = mismatch(folder, key, str(theirs.get(name)), str(value))
        else:
            length = None if table == "settings" else SHOWN  # all else here is hashes and counts
            shown = [str(v)[:length] for v in (theirs.get(name), value)]
            differs = f"{folder} was begun with {name} {shown[0]}, and now it is {shown[1]}"
        raise RelayError(f"{differs}: give the same, or another --out")


def mismatch(folder: Path, part: str, theirs: str, mine: str) -> str:
    """That a folder was made with another network, both hashes named."""
    return (
        f"{folder} was prepared with the {part.replace('_', ' ')} {theirs[:SHOWN]}, and this one "
        f"is {mine[:SHOWN]}"
    )


def _read(cls: type[T], file: Path) -> T:
    try:
        return from_dict(cls, json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RelayError(f"{file} is damaged, or of another version: {error}") from error


def _leaves(table: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value
