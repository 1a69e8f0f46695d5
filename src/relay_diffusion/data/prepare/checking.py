"""The first pass: which pictures can be used, their sizes and looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from relay_diffusion.data.pictures.decoding import decode, measure
from relay_diffusion.data.pictures.faults import PictureFault, lasting
from relay_diffusion.data.pictures.opening import open_records
from relay_diffusion.data.prepare.blocklists import Blocklists
from relay_diffusion.data.prepare.duplicates import Look
from relay_diffusion.data.prepare.settings import Settings
from relay_diffusion.files import put_text

LEAST = 256
"""Side at which a picture is decoded for its looks, where the format allows less than all of it."""


class Checker:
    """Checks a range of records and writes what it found to a file; one in each worker.

    All of a picture is decoded, so that the second pass meets no truncated one. The cheap checks go
    first.

    Args:
        pictures: as ``open_records`` takes it.
        folder: for the files.
    """

    def __init__(
        self, pictures: str, folder: Path, settings: Settings, blocklists: Blocklists
    ) -> None:
        self.records = open_records(pictures)
        self.folder, self.settings, self.blocklists = folder, settings, blocklists

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Args: item: {"shard": number}. Returns: the same, and how many records ``num`` it has."""
        shard, size = int(item["shard"]), self.settings.shard_size
        rows: list[list[Any]] = []
        faults: list[list[Any]] = []
        chosen = range(shard * size, min(len(self.records), (shard + 1) * size))
        for i in chosen:
            try:
                rows.append([i, *self._checked(i)])
            except PictureFault as fault:
                faults.append([i, fault.kind, fault.detail])
        put_text(checks_file(self.folder, shard), json.dumps({"rows": rows, "faults": faults}))
        return {"shard": shard, "num": len(chosen)}

    def _checked(self, i: int) -> tuple[int, int, str]:
        """Height, width and :class:`Look`. Raises: PictureFault."""
        texts = self.records.texts(i).captions
        captions = self.settings.chosen(texts)
        if not captions:
            wanted = ", ".join(self.settings.captions)
            raise PictureFault("no caption", f"in {wanted}" if wanted else "")
        self.blocklists.check(captions, texts.get(self.settings.link, ""))
        with self.records.open(i) as file:
            height, width = measure(file)
            least, limit = self.settings.min_size, self.settings.aspect_limit
            if min(height, width) < least:
                raise PictureFault("too small", f"{width}x{height}, needs {least}x{least}")
            if max(height, width) > limit * min(height, width):
                raise PictureFault("extreme aspect", f"{width}x{height}, at most {limit:g}:1")
            file.seek(0)
            image = decode(file, least=LEAST)
        if (image.height - image.width) * (height - width) < 0:
            height, width = width, height  # EXIF behind the pixels, where the header did not say so
        return height, width, str(Look.of(image))


def checked(folder: Path, shard: int) -> bool:
    """Whether a range is done with: not if something could not be read, which may be otherwise
    now."""
    file = checks_file(folder, shard)
    return file.is_file() and lasting(json.loads(file.read_text(encoding="utf-8"))["faults"])


def checks_file(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05}.json"
