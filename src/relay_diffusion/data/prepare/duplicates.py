"""Which pictures show what an earlier one shows already."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
from PIL import Image
from tqdm import tqdm

BITS = 64
THUMBNAIL = (8, 8)
TOLERANCE = 16
"""Levels of 255. Copies in JPEG or at another size differ by less; different small things on a
plain ground, which may share a hash, by more."""


@dataclass(frozen=True)
class Look:
    """What a picture looks like: its perceptual hash, of 64 bits, and a thumbnail.

    The hash (``imagehash.phash``) finds pairs quickly, and takes many of them for the same: it
    knows no colour, and little else of a picture with one small thing in it. The thumbnail
    confirms.
    """

    hash: int
    thumbnail: bytes

    @classmethod
    def of(cls, image: Image.Image) -> Look:
        import imagehash

        small = image.resize(THUMBNAIL, Image.Resampling.BOX)
        return cls(int(str(imagehash.phash(image)), 16), small.tobytes())

    @classmethod
    def parse(cls, text: str) -> Look:
        """Inverse of ``str``."""
        data = base64.b64decode(text)
        return cls(int.from_bytes(data[: BITS // 8], "big"), data[BITS // 8 :])

    def __str__(self) -> str:
        return base64.b64encode(self.hash.to_bytes(BITS // 8, "big") + self.thumbnail).decode()

    def like(self, other: Look, distance: int) -> bool:
        """Whether both are one picture; their hashes may differ in ``distance`` bits."""
        if (self.hash ^ other.hash).bit_count() > distance:
            return False
        mine, theirs = (
            np.frombuffer(look.thumbnail, np.uint8).astype(np.int16) for look in (self, other)
        )
        return int(np.abs(mine - theirs).max()) <= TOLERANCE


def duplicates(looks: Sequence[Look | None], distance: int) -> dict[int, int]:
    """By position, the first earlier picture kept that is like it.

    It is decided in order, so that the first always stays, and depends on the looks alone. Two
    hashes that differ in d bits agree in one of d + 1 bands of bits, so only those that share a
    band are compared; and one that looks exactly as another does is decided as that was.

    Args:
        looks: None where there is no picture.
        distance: as for :meth:`Look.like`; below 0 there are no duplicates.
    """
    if distance < 0:
        return {}
    edges = [BITS * i // (distance + 1) for i in range(distance + 2)]
    bands = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
    kept: list[dict[int, list[tuple[int, Look]]]] = [{} for _ in bands]
    found: dict[int, int] = {}
    decided: dict[Look, int] = {}
    for i, look in enumerate(tqdm(looks, desc="comparing", disable=None, leave=False, delay=1)):
        if look is None:
            continue
        if look in decided:
            found[i] = decided[look]
            continue
        keys = [look.hash >> low & mask for low, mask in bands]
        near: list[int] = []  # the first of each band: there they are in order
        for shared, key in zip(kept, keys, strict=True):
            alike = (j for j, other in shared.get(key, ()) if look.like(other, distance))
            near += islice(alike, 1)
        decided[look] = min(near, default=i)
        if near:
            found[i] = decided[look]
            continue
        for shared, key in zip(kept, keys, strict=True):
            shared.setdefault(key, []).append((i, look))
    return found
