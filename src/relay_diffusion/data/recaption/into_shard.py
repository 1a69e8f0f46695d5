"""Captions into a tar shard: a field of KEY.json."""

from __future__ import annotations

import copy
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from relay_diffusion.data.pictures.records import json_of, text_of
from relay_diffusion.data.pictures.shards import sample_of
from relay_diffusion.data.recaption.lines import json_line
from relay_diffusion.data.recaption.replacing import replacing
from relay_diffusion.errors import RelayError

CHUNK_BYTES = 1 << 24


def add_to_shard(shard: Path, field: str, captions: Mapping[str, str]) -> Path:
    """Write a shard anew with captions by key. A sample without KEY.json gets one behind its
    picture; all else is copied byte for byte.

    Returns: the shard.
    Raises: RelayError.
    """
    with tarfile.open(shard, "r:") as tar:
        members = [(*sample_of(member), member) for member in tar]
    with_json = {key for key, part, _ in members if part == "json"}
    left = dict(captions)
    with replacing(shard) as new, shard.open("rb") as old, new.open("wb") as out:
        for key, part, member in members:
            if key not in left or part != ("json" if key in with_json else "picture"):
                continue
            # Of several members of one name the first counts, as in reading: hence pop.
            caption = {field: left.pop(key)}
            if part == "json":
                _copy(old, out, member.offset)
                old.seek(member.offset_data)
                _add(out, member, {**json_of(text_of(old.read(member.size))), **caption})
                old.seek(_end(member))
            else:
                _copy(old, out, _end(member))
                _add(out, member, caption)
        shutil.copyfileobj(old, out, CHUNK_BYTES)
        if left:
            raise RelayError(f"{shard} has changed: there is no picture {next(iter(left))} now")
    return shard


def _copy(old: BinaryIO, out: BinaryIO, until: int) -> None:
    while data := old.read(min(until - old.tell(), CHUNK_BYTES)):
        out.write(data)


def _end(member: tarfile.TarInfo) -> int:
    """Where the next member begins."""
    return member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _add(out: BinaryIO, like: tarfile.TarInfo, fields: dict[str, Any]) -> None:
    """Write KEY.json for the sample of a member, with that member's owner, mode and time."""
    folder, slash, name = like.name.rpartition("/")
    data = json_line(fields).encode()
    member = copy.copy(like)
    member.name = f"{folder}{slash}{name.partition('.')[0]}.json"
    member.size, member.pax_headers = len(data), {}
    out.write(member.tobuf(tarfile.PAX_FORMAT))
    out.write(data.ljust(_end(member) - member.offset_data, b"\0"))
