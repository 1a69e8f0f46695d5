"""WebDataset shards: tar files of KEY.jpg, KEY.txt, KEY.json.

Read by offset rather than with the ``webdataset`` library. That reads a shard from its start and
shuffles in a buffer, so a batch depends on what was read before it: resuming means reading up to
the place again, aspect-ratio buckets can be filled only from the buffer, and an epoch is not one
permutation. Shards on a local or network disk are seekable, and where each member begins is found
once and kept, so a picture costs one seek and one read, as in a folder, without a million files.
The same shards stream with ``webdataset`` elsewhere; the format is unchanged.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from relay_diffusion.data.pictures.faults import PictureFault
from relay_diffusion.data.pictures.kept import Arrays, kept, packed, unpacked
from relay_diffusion.data.pictures.records import SUFFIXES, Place, Records, Texts, sidecar_texts
from relay_diffusion.errors import RelayError

PARTS = ("picture", "txt", "json")


class ShardRecords(Records):
    """Samples of tar files in order. A member belongs to the sample of its name up to the first dot
    of its last part; samples without a picture are passed over, as are members of other kinds.

    Raises: RelayError if a file is no plain tar (compressed ones have no offsets), or none has a
        picture.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self._shards = list(shards)
        arrays = kept("members", self._shards, lambda: _members(self._shards))
        self._keys: list[str] = unpacked(arrays["keys"])
        self._shard = arrays["shard"]
        self._offsets = arrays["offsets"]  # (N, parts), -1 where there is none
        self._sizes = arrays["sizes"]
        if not self._keys:
            raise RelayError(f"no pictures in {shards[0]} and its like; members are KEY.jpg, ...")

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, i: int) -> str:
        return self._keys[i]

    def texts(self, i: int) -> Texts:
        return sidecar_texts(self._part(i, "txt"), self._part(i, "json"))

    def open(self, i: int) -> BinaryIO:
        data = self._part(i, "picture")
        assert data is not None
        return io.BytesIO(data)

    def place(self, i: int) -> Place:
        return Place(self._shards[self._shard[i]], self._keys[i])

    def files(self) -> Iterable[Path]:
        return self._shards

    def _part(self, i: int, part: str) -> bytes | None:
        column = PARTS.index(part)
        offset, size = int(self._offsets[i, column]), int(self._sizes[i, column])
        if offset < 0:
            return None
        try:
            with self._shards[self._shard[i]].open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise PictureFault("unreadable", str(error.strerror)) from error


def _members(shards: Sequence[Path]) -> Arrays:
    """Where the parts of each sample lie."""
    keys: list[str] = []
    shard: list[int] = []
    places: list[list[tuple[int, int]]] = []
    for number, path in enumerate(shards):
        samples: dict[str, dict[str, tuple[int, int]]] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    key, part = sample_of(member)
                    if part:
                        place = (member.offset_data, member.size)
                        samples.setdefault(key, {}).setdefault(part, place)
        except (OSError, tarfile.TarError) as error:
            raise RelayError(f"{path} is not a whole, uncompressed tar file: {error}") from error
        for key, parts in samples.items():
            if "picture" in parts:
                keys.append(key)
                shard.append(number)
                places.append([parts.get(part, (-1, 0)) for part in PARTS])
    table = np.array(places, np.int64).reshape(-1, len(PARTS), 2)
    return {
        "keys": packed(keys),
        "shard": np.array(shard, np.int32),
        "offsets": table[:, :, 0],
        "sizes": table[:, :, 1],
    }


def sample_of(member: tarfile.TarInfo) -> tuple[str, str]:
    """Key and part of a member; no part if it is of another kind."""
    path = PurePosixPath(member.name)
    stem, _, suffix = path.name.partition(".")
    suffix = f".{suffix.lower()}"
    part = "picture" if suffix in SUFFIXES else suffix[1:]
    plain = bool(stem) and member.isreg() and not member.issparse()
    return path.with_name(stem).as_posix() if stem else "", part if plain and part in PARTS else ""
