"""A little atlas of vector shapes, so that tests need no drawings of anyone's."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from relay_diffusion.data.scenes.atlas import Atlas

SIDE = 160


def draw_shape(kind: int) -> Image.Image:
    """A coloured shape on a transparent ground; ``kind`` picks form and colour."""
    colours = ["#d03030", "#3050d0", "#e0c020", "#30a040", "#c050c0", "#f08020"]
    picture = Image.new("RGBA", (SIDE, SIDE))
    draw = ImageDraw.Draw(picture)
    colour = colours[kind % len(colours)]
    box = (16, 16, SIDE - 16, SIDE - 16)
    form = kind // len(colours) % 3
    if form == 0:
        draw.ellipse(box, fill=colour)
    elif form == 1:
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(SIDE // 2, 16), (SIDE - 16, SIDE - 16), (16, SIDE - 16)], fill=colour)
    return picture


def shapes_atlas(subjects: Sequence[str]) -> Atlas:
    """Every subject drawn as some shape."""
    return Atlas.from_images({name: draw_shape(kind) for kind, name in enumerate(subjects)})
