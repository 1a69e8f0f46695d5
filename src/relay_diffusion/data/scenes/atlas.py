"""The sprite atlas: every drawing of the world, rasterised once from its vectors.

On disk it is a plain tar of lossless WebP pictures named after their subjects (a few megabytes,
kept out of git, built by ``relay scenes --build-atlas``). In memory it is a mip pyramid of tensors,
so that a drawing can be shown at any size without aliasing.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.files import put

ATLAS_SIDE = 320
"""Pixels a side. Drawings reach 0.78 of a 512 picture (400 pixels), rarely more than 320."""

SMALLEST_LEVEL = 20


@dataclass(frozen=True)
class Atlas:
    """Drawings as a mip pyramid.

    Attributes:
        subjects: what ``levels[i][k]`` shows, by k.
        levels: largest first, each (N, 4, S, S) uint8, RGB premultiplied by the alpha channel.
    """

    subjects: tuple[str, ...]
    levels: tuple[Tensor, ...]

    def index(self, subject: str) -> int:
        try:
            return self._index[subject]
        except KeyError:
            raise RelayError(
                f"the sprite atlas has no drawing of {subject!r}; "
                "build it again with 'relay scenes --build-atlas --drawings FOLDER'"
            ) from None

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.subjects)}

    def to(self, device: torch.device | str) -> Atlas:
        return Atlas(self.subjects, tuple(level.to(device) for level in self.levels))

    @property
    def device(self) -> torch.device:
        return self.levels[0].device

    @classmethod
    def from_images(cls, images: Mapping[str, Image.Image]) -> Atlas:
        """Pyramid of square RGBA pictures, all of one size divisible by two down to about 20."""
        sides = {image.size for image in images.values()}
        if len(sides) != 1 or len(set(next(iter(sides)))) != 1:
            raise RelayError(f"atlas pictures must be squares of one size, got {sorted(sides)}")
        rgba = np.stack([np.asarray(image.convert("RGBA")) for image in images.values()])
        level = torch.from_numpy(rgba).permute(0, 3, 1, 2).float()
        level[:, :3] *= level[:, 3:] / 255
        levels = [level.round().to(torch.uint8)]
        while level.shape[-1] % 2 == 0 and level.shape[-1] // 2 >= SMALLEST_LEVEL:
            level = F.avg_pool2d(level, 2)
            levels.append(level.round().to(torch.uint8))
        return cls(tuple(images), tuple(levels))

    @classmethod
    def load(cls, path: str | Path, subjects: Iterable[str] | None = None) -> Atlas:
        """Read an atlas file; with ``subjects``, only those (in that order)."""
        path = Path(path)
        if not path.is_file():
            raise RelayError(
                f"no sprite atlas at {path}; build it with 'relay scenes --build-atlas "
                f"--drawings FOLDER --atlas {path}' (recipes/README.md)"
            )
        with tarfile.open(path) as tar:
            members = {Path(member.name).stem: member for member in tar if member.isfile()}
            wanted = sorted(members) if subjects is None else list(subjects)
            missing = [name for name in wanted if name not in members]
            if missing:
                raise RelayError(
                    f"the sprite atlas {path} lacks {', '.join(missing[:5])}"
                    f"{' and more' if len(missing) > 5 else ''}; build it again"
                )
            files = {name: tar.extractfile(members[name]) for name in wanted}
            data = {name: file.read() for name, file in files.items() if file is not None}
        with ThreadPoolExecutor() as pool:
            images = pool.map(_open_picture, data.values())
        return cls.from_images(dict(zip(wanted, images, strict=True)))


def build_atlas(
    drawings: str | Path, out: str | Path, subjects: Iterable[str], side: int = ATLAS_SIDE
) -> int:
    """Rasterise vector drawings into an atlas file; returns its size in bytes.

    Args:
        drawings: an Iconify collection (``icons.json``, or the npm package's folder that holds it),
            or a folder of SVG files.
        out: the tar to write (replaced whole, never left half-written).
        subjects: names of the drawings to take.
        side: pixels a side.
    """
    from relay_diffusion.data.scenes.vectors import rasterise

    out = Path(out)
    bodies = _read_drawings(Path(drawings))
    missing = [name for name in subjects if name not in bodies]
    if missing:
        raise RelayError(f"{drawings} has no drawing named {', '.join(missing[:8])}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with put(out) as new, tarfile.open(new, "w") as tar:
        for name in sorted(subjects):
            buffer = io.BytesIO()
            rasterise(bodies[name], side).save(buffer, "WEBP", lossless=True, method=4)
            info = tarfile.TarInfo(f"{name}.webp")
            info.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(info, buffer)
    return out.stat().st_size


def _open_picture(raw: bytes) -> Image.Image:
    return Image.open(io.BytesIO(raw)).convert("RGBA")


def _read_drawings(path: Path) -> dict[str, str]:
    """Name -> SVG document, from an Iconify collection or a folder of SVG files."""
    collection = path / "icons.json" if path.is_dir() else path
    if collection.is_file():
        data = json.loads(collection.read_text(encoding="utf-8"))
        width, height = data.get("width", 16), data.get("height", 16)
        return {
            name: (
                '<svg xmlns="http://www.w3.org/2000/svg" '
                'xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} '
                f'{icon.get("width", width)} {icon.get("height", height)}">{icon["body"]}</svg>'
            )
            for name, icon in data["icons"].items()
        }
    drawings = {file.stem: file.read_text(encoding="utf-8") for file in sorted(path.glob("*.svg"))}
    if not drawings:
        raise RelayError(f"{path} holds neither an Iconify icons.json nor SVG files")
    return drawings
