"""What training gets of a stream of pictures."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class PictureBatch:
    """A batch of training pictures.

    Attributes:
        x: (B, 3, H, W) float32 in [-1, 1].
        captions: B strings.
        time_ids: (B, 6) size conditioning in pixels, as SDXL (arXiv:2307.01952) has it: original
            height and width, top and left of the crop within the resized picture, target height and
            width.
        whole: False for windows of larger pictures.
    """

    x: Tensor
    captions: list[str]
    time_ids: Tensor
    whole: bool = field(default=True, kw_only=True)
