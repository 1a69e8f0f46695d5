"""Pictures in and out: PIL, numpy or torch on the outside, x (B, 3, H, W) in [-1, 1] inside."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.depth import eight_bits

OutputType = Literal["pil", "np", "pt", "latent"]

MAX_PIXELS = 4096 * 4096
"""No stage makes more: beyond it, attention alone needs more memory than any one machine has."""


def check_output_type(output_type: str) -> None:
    """Raise RelayError for an output type that is not one of ``OutputType``."""
    if output_type not in get_args(OutputType):
        raise RelayError(
            f"output_type {output_type!r}; allowed is {', '.join(get_args(OutputType))}"
        )


def check_pixels(height: int, width: int) -> None:
    """Raise RelayError for a picture to be made of more than ``MAX_PIXELS``."""
    if height * width > MAX_PIXELS:
        raise RelayError(
            f"a picture of {width}x{height} is beyond the limit of {MAX_PIXELS / 1e6:.1f} million "
            "pixels; ask for a smaller one, or crop it first"
        )


def open_picture(path: Path) -> Image.Image:
    """Read a picture file as RGB, turned upright, transparency laid on white.

    Raises: RelayError if it is missing, damaged, not a picture, or beyond ``MAX_PIXELS``.
    """
    try:
        with warnings.catch_warnings():
            # Pillow's own limit is higher than ours; ours is checked before anything is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                check_pixels(image.height, image.width)
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise RelayError(f"there is no picture {path}") from None
    except RelayError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RelayError(f"{path} cannot be read as a picture: {error}") from error


def to_pixels(images: Any) -> Tensor:
    """Pictures in any form as x, (B, 3, H, W) float32 in [-1, 1].

    Args:
        images: a PIL image; a numpy array (H, W), (H, W, C) or (B, H, W, C), uint8 or float in
            [0, 1], C being 1 (grey) or 3, and one more with transparency, which is laid on white; a
            tensor (3, H, W) or (B, 3, H, W), likewise; or a list of these of one size.
    Raises: RelayError for anything else.
    """
    if isinstance(images, Sequence) and not isinstance(images, str):
        if not images:
            raise RelayError("no picture was given")
        parts = [to_pixels(image) for image in images]
        sizes = {tuple(part.shape[2:]) for part in parts}
        if len(sizes) > 1:
            raise RelayError("the pictures differ in size; give those of one size at a time")
        return torch.cat(parts)
    if isinstance(images, Image.Image):
        images = np.asarray(_to_rgb(images))
    shape = tuple(getattr(images, "shape", ()))
    channels = [3]  # a tensor of 4 may well be latents
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.array(images[..., None] if images.ndim == 2 else images))
        images = images.movedim(-1, -3) if images.ndim > 2 else images
        channels = [1, 2, 3, 4]
    if not isinstance(images, Tensor):
        raise RelayError(
            f"a picture of type {type(images).__name__}; give a PIL image, an array or a tensor"
        )
    x = images[None] if images.ndim == 3 else images
    if x.ndim != 4 or x.shape[1] not in channels or 0 in x.shape:
        raise RelayError(
            f"a picture of shape {shape}; it must have three colours, (H, W, 3) if it is an array, "
            "(3, H, W) if a tensor"
        )
    if x.dtype == torch.uint8:
        return _three_colours(x.float() / 127.5 - 1)
    x = x.float()
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise RelayError("a picture has values outside [0, 1]; scale it, or give uint8")
    return _three_colours(x * 2 - 1)


def from_pixels(x: Tensor, output_type: Literal["pil", "np", "pt"]) -> Any:
    """x (B, 3, H, W) in [-1, 1] as diffusers gives pictures out.

    Returns: a list of PIL images; "np": (B, H, W, 3) float32 in [0, 1]; "pt": (B, 3, H, W) in
        [0, 1], on the device of ``x``.
    """
    pictures = (x / 2 + 0.5).clamp(0, 1)
    if output_type == "pt":
        return pictures
    array = pictures.movedim(1, -1).cpu().float().numpy()
    if output_type == "np":
        return array
    return [Image.fromarray(picture) for picture in (array * 255).round().astype(np.uint8)]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Add pixels at the bottom and right until both sides are multiples of ``multiple``.

    They mirror the picture, or repeat its last row and column where it is too small for that.
    """
    height, width = x.shape[2:]
    right, bottom = -width % multiple, -height % multiple
    mode = "reflect" if right < width and bottom < height else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode) if right or bottom else x


def cover(x: Tensor, height: int, width: int) -> Tensor:
    """Cut the middle of a picture to the shape of height:width and resize it to that size."""
    scale = min(x.shape[2] / height, x.shape[3] / width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (x.shape[2] - rows) // 2, (x.shape[3] - columns) // 2
    x = x[:, :, top : top + rows, left : left + columns]
    return F.interpolate(x, (height, width), mode="bilinear", antialias=True).clamp(-1, 1)


def _three_colours(x: Tensor) -> Tensor:
    """As :func:`_to_rgb`, of x (B, C, H, W) in [-1, 1], C = 1 to 4."""
    if x.shape[1] in (2, 4):
        opacity = x[:, -1:] / 2 + 0.5
        x = x[:, :-1] * opacity + (1 - opacity)
    return x if x.shape[1] == 3 else x.repeat(1, 3, 1, 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    image = eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
