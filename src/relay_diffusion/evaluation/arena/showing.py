"""Pictures as raters get them: pixels only, so that nothing in the file tells the model."""

from __future__ import annotations

import io
from functools import lru_cache

from PIL import Image, ImageOps

from relay_diffusion.evaluation.arena.entries import Picture
from relay_diffusion.pipelines.depth import eight_bits

NUM_KEPT = 16

COLOURS_AT = slice(16, 20)
"""Where a profile names the colours that it is of (ICC.1, section 7.2.6)."""
COLOURS = {"L": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB "}


@lru_cache(maxsize=NUM_KEPT)
def neutral_png(picture: Picture) -> bytes:
    """The picture as PNG, whatever it was, without its text, EXIF data and name.

    Lossless, but for more than 8 bits: rotation out of the EXIF data is done, and the colour
    profile kept where it is of the colours that are sent.
    """
    with Image.open(picture.path) as image:
        shown = eight_bits(ImageOps.exif_transpose(image))
        profile = image.info.get("icc_profile")
    if shown.mode not in ("L", "RGB", "RGBA"):
        shown = shown.convert("RGBA" if shown.has_transparency_data else "RGB")
    if profile and profile[COLOURS_AT] != COLOURS[shown.mode]:
        profile = None
    shown.info.clear()
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG", compress_level=1, icc_profile=profile)
    return buffer.getvalue()
