"""Pictures of one subject in one style, as a folder: what somebody would fine-tune a cascade on."""

from __future__ import annotations

import difflib
from pathlib import Path

from PIL import Image

from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.data.scenes.captions import long_caption
from relay_diffusion.data.scenes.facts import Asked, Facts
from relay_diffusion.data.scenes.render import render
from relay_diffusion.data.scenes.styles import STYLES
from relay_diffusion.data.scenes.world import World
from relay_diffusion.errors import RelayError


def write_folder(
    folder: Path,
    atlas: Path,
    subject: str,
    style: str,
    num: int,
    size: int,
    seed: int,
) -> None:
    """Write ``num`` pictures of a subject in a style, at various places on the small world's
    backgrounds, each with its long caption: ``0000.png``, ``0000.txt``, ...

    Args:
        subject, style: of the full world, so that they may be none that the small one has.
        size: side of the pictures, in pixels.
    Raises: RelayError if there is no such subject or style, or the folder holds something.
    """
    subjects = World.full().subjects
    for what, name, known in (("subject", subject, subjects), ("style", style, tuple(STYLES))):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            raise RelayError(f"there is no {what} {name!r} in the world, the nearest is {near!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RelayError(f"{folder} exists already: give a new folder, or remove it")
    facts = Facts((Asked(subject),), style=style)
    scenes = [World.small().compose(facts, seed + index) for index in range(num)]
    x = render(Atlas.load(atlas, [subject]), scenes, size, size)
    pixels = ((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    folder.mkdir(parents=True, exist_ok=True)
    for index, scene in enumerate(scenes):
        Image.fromarray(pixels[index]).save(folder / f"{index:04}.png")
        (folder / f"{index:04}.txt").write_text(long_caption(scene, seed + index) + "\n")
