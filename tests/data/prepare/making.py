"""A cascade of a few thousand weights, pictures with faults, and work without processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from relay_diffusion.data.prepare.blocklists import Blocklists
from relay_diffusion.data.prepare.manifest import Manifest
from relay_diffusion.data.prepare.pool import Item, Work
from relay_diffusion.data.prepare.run import Job, prepare
from relay_diffusion.data.prepare.settings import Settings
from tests.data.drawn import Drawn, encoded

WORDS = ["a", "red", "blue", "fox", "above", "mushroom", "pixel", "art"]


class Killed(BaseException):
    """What a test does to a run."""


class InLine:
    """Work done one after the other, in the order of ``order``, until ``stop`` items are done."""

    def __init__(self, order: int = 1, stop: int = 10**9) -> None:
        self.order, self.left = order, stop
        self.done = 0
        self.gpu = False

    def each(
        self, make: Callable[..., Work], arguments: Sequence[Any], items: Sequence[Item], gpu: bool
    ) -> Iterator[Item]:
        self.gpu |= gpu
        work = make(*arguments)
        for item in list(items)[:: self.order]:
            if self.done == self.left:
                raise Killed
            result = work(item)
            self.done += 1
            yield result


def scribble(number: int, width: int = 64, height: int = 64) -> Image.Image:
    """A picture whose perceptual hash is its own: a few blocks, by the bits of the number."""
    image = Image.new("RGB", (width, height), (40, number * 37 % 256, 90))
    bits = number * 2654435761 % 2**32
    for bit in range(16):
        if bits >> (bit * 2 + 1) & 1:
            x, y = bit % 4 * width // 4, bit // 4 * height // 4
            tint = (230, 200 - bit * 5, 60 + bit * 9)
            image.paste(tint, (x, y, x + width // 4, y + height // 4))
    return image


def scribbles(num: int, sizes: Sequence[tuple[int, int]] = ((64, 64),)) -> list[Drawn]:
    """Records with a long and a short caption."""
    records = []
    for i in range(num):
        fields = {"long": f"a {WORDS[i % 8]} fox {i}", "short": WORDS[i % 8]}
        records.append(Drawn(f"{i:03}", encoded(scribble(i, *sizes[i % len(sizes)])), fields))
    return records


def job(pictures: Path, out: Path, cascade: Path, **settings: Any) -> Job:
    chosen = {"size": 64, "shard_size": 8, "batch_size": 4, **settings}
    return Job(str(pictures), out, cascade, "tiny", Settings(**chosen), Blocklists())


def made(pictures: Path, out: Path, cascade: Path, **settings: Any) -> Manifest:
    return prepare(job(pictures, out, cascade, **settings), InLine())


def contents(out: Path) -> dict[str, bytes]:
    """All files of a prepared folder but the lock."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def left_out(out: Path) -> dict[str, tuple[str, str]]:
    lines = (out / "left-out.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {row["key"]: (row["reason"], row["detail"]) for row in rows}
