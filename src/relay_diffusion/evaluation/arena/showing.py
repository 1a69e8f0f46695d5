"""Pictures as raters get them: pixels only, so that nothing in the file tells the model."""

from __future__ import annotations

import io
from functools import lru_cache

from PIL import Image, ImageOps

from relay_diffusion.evaluation.arena.entries import Picture

NUM_KEPT = 16


@lru_cache(maxsize=NUM_KEPT)
def neutral_png(picture: Picture) -> bytes:
    """The picture as PNG, whatever it was, without its text, EXIF data and name.

    Lossless: rotation out of the EXIF data is done, and the colour profile kept.
    """
    with Image.open(picture.path) as image:
        shown = ImageOps.exif_transpose(image)
        profile = image.info.get("icc_profile")
    if shown.mode not in ("L", "RGB", "RGBA"):
        shown = shown.convert("RGBA" if "transparency" in shown.info else "RGB")
    shown.info.clear()
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG", compress_level=1, icc_profile=profile)
    return buffer.getvalue()
