"""A stored picture as a window of a bucket's shape, with the numbers that condition on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor

from relay_diffusion.data.buckets import Bucket
from relay_diffusion.data.pictures.decoding import decode

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def cropped(
    file: BinaryIO,
    stored: tuple[int, int],
    bucket: Bucket,
    corner: Callable[[int], int],
    original: tuple[int, int] | None = None,
) -> tuple[Pixels, list[int]]:
    """Decode, resize to cover the bucket, crop.

    Args:
        stored: (height, width) of the picture in ``file``, as its header says.
        corner: of so many spare pixels, how many lie above (asked first) and left of the crop.
        original: (height, width) before it was stored; by default ``stored``.
    Returns: pixels (H, W, 3) uint8, and the six numbers of the size conditioning.
    Raises: PictureFault.
    """
    height, width = bucket.resized(*stored)
    image = decode(file, least=max(height, width))
    if (image.height - image.width) * (height - width) < 0:
        # EXIF behind the pixels, where the header did not say so, turned it by 90 degrees.
        stored = stored[1], stored[0]
        height, width = bucket.resized(*stored)
    # In one step from what was decoded; Lanczos filters before it takes pixels away.
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    top, left = corner(height - bucket.height), corner(width - bucket.width)
    image = image.crop((left, top, left + bucket.width, top + bucket.height))
    return np.asarray(image), [*(original or stored), top, left, bucket.height, bucket.width]


def as_input(pixels: Tensor) -> Tensor:
    """Pictures (B, H, W, 3) uint8 as networks take them, (B, 3, H, W) float32 in [-1, 1]."""
    return (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()
