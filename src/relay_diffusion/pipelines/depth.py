"""Pictures of more than 8 bits; apart from ``pictures``, for who shows them and needs no torch."""

from __future__ import annotations

import numpy as np
from PIL import Image


def eight_bits(image: Image.Image) -> Image.Image:
    """A picture of 16 bits of grey in 8, which Pillow would clip at 255; any other as it is."""
    if not image.mode.startswith("I"):
        return image
    grey = np.asarray(image, dtype=np.float64) / 257
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))
