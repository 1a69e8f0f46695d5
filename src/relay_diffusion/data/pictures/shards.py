"""WebDataset shards: tar files of KEY.jpg, KEY.txt, KEY.json.

Read by offset rather than with the ``webdataset`` library. That reads a shard from its start and
shuffles in a buffer, so a batch depends on what was read before it: resuming means reading up to
the place again, aspect-ratio buckets can be filled only from the buffer, and an epoch is not one
permutation. Shards on a local or network disk are seekable, and where each member begins is found
once and kept, so a picture costs one seek and one read, as in a folder, without a million files.
The same shards stream with ``webdataset`` elsewhere; the format is unchanged.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from relay_diffusion.data.pictures.faults import BadRecord, unread
from relay_diffusion.data.pictures.kept import Arrays, kept, packed, unpacked
from relay_diffusion.data.pictures.records import (
    SUFFIXES,
    Place,
    Records,
    Texts,
    escaped,
    sidecar_texts,
)
from relay_diffusion.data.pictures.window import window
from relay_diffusion.errors import RelayError

PARTS = ("picture", "txt", "json")


class ShardRecords(Records):
    """Samples of tar files in order. A member belongs to the sample of its name up to the first dot
    of its last part; samples without a picture are passed over, as are members of other kinds.

    A file that breaks off is read up to there, and one that is no plain tar (compressed ones have
    no offsets) not at all; ``broken`` names both.

    Raises: RelayError if none has a picture.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self._shards = list(shards)
        self._keys: list[str] = []
        self._parts: list[tuple[Sequence[Path], range]] = []
        self._broken: list[BadRecord] = []
        tables = []
        for path in self._shards:
            try:
                arrays = kept("samples", [path], partial(_samples, path))
            except OSError as error:  # not kept: it may be there the next time
                arrays = _as_arrays([], f"cannot be read: {error.strerror}")
            first = len(self._keys)
            self._keys += unpacked(arrays["keys"])
            self._parts.append(([path], range(first, len(self._keys))))
            tables.append(arrays["places"])
            why = unpacked(arrays["broken"])
            if why:
                self._broken.append(BadRecord(escaped(str(path)), "broken shard", escaped(why)))
        lengths = [len(part) for _, part in self._parts]
        self._shard = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        self._places = np.concatenate(tables)  # (N, parts, 2), offset -1 where there is none
        if not self._keys:
            if self._broken:
                raise RelayError(
                    f"{self._broken[0].key} is not a whole, uncompressed tar file: "
                    f"{self._broken[0].detail}"
                )
            raise RelayError(f"no pictures in {shards[0]} and its like; members are KEY.jpg, ...")

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, i: int) -> str:
        return escaped(self._keys[i])

    def texts(self, i: int) -> Texts:
        return sidecar_texts(self._part(i, "txt"), self._part(i, "json"))

    def open(self, i: int) -> BinaryIO:
        path, offset, size = self._place(i, "picture")
        try:
            return window(path, offset, size)
        except OSError as error:
            raise unread(error) from error

    def place(self, i: int) -> Place:
        return Place(self._shards[self._shard[i]], self._keys[i])

    def places(self) -> Sequence[Path]:
        return self._shards

    def files(self) -> Iterable[Path]:
        return self._shards

    def parts(self) -> Iterable[tuple[Sequence[Path], range]]:
        return self._parts

    def broken(self) -> Sequence[BadRecord]:
        return self._broken

    def _part(self, i: int, part: str) -> bytes | None:
        path, offset, size = self._place(i, part)
        if offset < 0:
            return None
        try:
            with window(path, offset, size, size) as file:
                return file.read()
        except OSError as error:
            raise unread(error) from error

    def _place(self, i: int, part: str) -> tuple[Path, int, int]:
        """File, offset and size of a part of a sample."""
        offset, size = self._places[i, PARTS.index(part)].tolist()
        return self._shards[self._shard[i]], offset, size


def _samples(path: Path) -> Arrays:
    """Where the parts of each sample lie. Raises: OSError."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    key = broken = ""
    with path.open("rb", buffering=tarfile.BLOCKSIZE) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    key, part = sample_of(member)
                    if part:
                        place = (member.offset_data, member.size)
                        samples.setdefault(key, {}).setdefault(part, place)
                # A header that is none ends the loop as the end does, which is zeros, or no more.
                file.seek(tar.offset)
                if any(file.read(tarfile.BLOCKSIZE)):
                    broken = f"no header of a member at byte {tar.offset}"
        except tarfile.TarError as error:
            broken = str(error)
    if broken:
        samples.pop(key, None)  # the last before the break may lack a part, or the end of one
        last = f"{key} on" if key else "the first on"
        broken = f"{broken}; not read from {last}"
    whole = {key: parts for key, parts in samples.items() if "picture" in parts}
    return _as_arrays(list(whole.items()), broken)


def _as_arrays(samples: Sequence[tuple[str, dict[str, tuple[int, int]]]], broken: str) -> Arrays:
    places = [[parts.get(part, (-1, 0)) for part in PARTS] for _, parts in samples]
    return {
        "keys": packed([key for key, _ in samples]),
        "places": np.array(places, np.int64).reshape(-1, len(PARTS), 2),
        "broken": packed(broken),
    }


def sample_of(member: tarfile.TarInfo) -> tuple[str, str]:
    """Key and part of a member; no part if it is of another kind."""
    path = PurePosixPath(member.name)
    stem, _, suffix = path.name.partition(".")
    suffix = f".{suffix.lower()}"
    part = "picture" if suffix in SUFFIXES else suffix[1:]
    plain = bool(stem) and member.isreg() and not member.issparse()
    return path.with_name(stem).as_posix() if stem else "", part if plain and part in PARTS else ""
