"""From the bytes of a picture to pixels, or to a named reason why not."""

from __future__ import annotations

import contextlib
import errno
import os
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from relay_diffusion.data.pictures.faults import PictureFault, unread

SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
NOT_HANDLED = ("I", "F")
"""32 bits a pixel: nothing in the file says which value is white."""

TURNED = (5, 6, 7, 8)
"""EXIF orientations whose height and width change places."""


def measure(file: BinaryIO) -> tuple[int, int]:
    """Height and width of a picture as it is to be seen, from its header; nothing is decoded.

    Raises: PictureFault.
    """
    with _faults(), _opened(file) as image:
        # PNG's own getexif decodes the pixels, to look for EXIF behind them as well.
        turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation) in TURNED
        return (image.width, image.height) if turned else (image.height, image.width)


def decode(file: BinaryIO, least: int = 0) -> Image.Image:
    """A picture in RGB, 8 bits: the first frame, turned as EXIF says, transparency onto white,
    16 bits cut to 8.

    Args:
        least: sides that are enough. A larger JPEG may come at a half, a quarter or an eighth of
            its size, which costs a fraction of decoding it; 0 asks for all of it.
    Raises: PictureFault.
    """
    with _faults(), _opened(file) as image:
        if image.mode in NOT_HANDLED:
            raise PictureFault("pixels not handled", f"{image.mode}, 32 bits; store 8 or 16")
        if least:
            image.draft(None, (least, least))
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode in SIXTEEN_BITS:
            return Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8)).convert("RGB")
        if upright.has_transparency_data:
            drawn = upright.convert("RGBA")
            white = Image.new("RGBA", drawn.size, "white")
            return Image.alpha_composite(white, drawn).convert("RGB")
        return upright.convert("RGB")


def _opened(file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file)
    except UnidentifiedImageError as error:
        empty = file.seek(0, os.SEEK_END) == 0
        what = "an empty file" if empty else "of no format that Pillow knows"
        raise PictureFault("not a picture", what) from error


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Whatever Pillow raises on bad data, by name. It raises a great many types, and one bad file
    must not end a run, so all are caught."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Twice as many pixels are an error by default; so many are refused already.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except PictureFault:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = f"at most {Image.MAX_IMAGE_PIXELS} pixels are decoded"
        raise PictureFault("too large", limit) from error
    except Exception as error:
        # Of the system, and not Pillow's own; that a place is none, a broken file asks for.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise unread(error) from error
        text = str(error)
        if "truncated" in text.lower() or isinstance(error, EOFError):
            raise PictureFault("truncated") from error
        raise PictureFault("broken", f"{type(error).__name__}: {text}") from error
