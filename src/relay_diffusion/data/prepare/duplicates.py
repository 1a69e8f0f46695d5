"""Which pictures show what an earlier one shows already."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

BITS = 64


def duplicates(hashes: Sequence[int | None], distance: int) -> dict[int, int]:
    """By position, the first earlier picture kept whose hash differs in ``distance`` bits or fewer.

    It is decided in order, so that the first always stays, and depends on the hashes alone. Two
    hashes that differ in d bits agree in one of d + 1 bands of bits, so only those that share a
    band are compared.

    Args:
        hashes: of 64 bits, None where there is no picture.
        distance: below 0 there are no duplicates.
    """
    if distance < 0:
        return {}
    edges = [BITS * i // (distance + 1) for i in range(distance + 2)]
    bands = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
    kept: list[dict[int, list[int]]] = [{} for _ in bands]
    found: dict[int, int] = {}
    for i, value in enumerate(hashes):
        if value is None:
            continue
        near = [
            j
            for shared, (low, mask) in zip(kept, bands, strict=True)
            for j in shared.get(value >> low & mask, ())
            if (value ^ (hashes[j] or 0)).bit_count() <= distance
        ]
        if near:
            found[i] = min(near)
            continue
        for shared, (low, mask) in zip(kept, bands, strict=True):
            shared.setdefault(value >> low & mask, []).append(i)
    return found
