"""Pictures as vectors, for distances between sets of them.

A distance means something only beside others of the same features, the same number of pictures and
the same resizing; here every picture is 8-bit RGB when it comes in, made or true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from relay_diffusion.errors import RelayError, first_line
from relay_diffusion.evaluation.judge.network import SIDE, JudgeNetwork
from relay_diffusion.pipelines.pictures import to_pixels

BATCH_SIZE = 32


class JudgeFeatures(nn.Module):
    """The judge's reading of whole pictures, for the scene world: (B, 3, H, W) uint8 to (B, D).

    The picture is brought to 128x128 by antialiased bilinear resizing, in float32 and without
    rounding in between, and scaled to [-1, 1]; D is six times the judge's width (192).
    """

    name = "judge"

    def __init__(self, network: JudgeNetwork) -> None:
        super().__init__()
        self.network = network.eval()

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures.float()
        if x.shape[-2:] != (SIDE, SIDE):
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
        return self.network.features(x / 127.5 - 1)


class InceptionFeatures(nn.Module):
    """The Inception network of the usual FID, from its TorchScript file: NVIDIA's
    ``inception-2015-12-05.pt``, which resizes by itself. (B, 3, H, W) uint8 to (B, 2048)."""

    name = "inception"

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    @classmethod
    def from_file(cls, path: Path) -> InceptionFeatures:
        """Raises: RelayError if the file is missing or no TorchScript."""
        try:
            return cls(torch.jit.load(str(path), map_location="cpu").eval())
        except (RuntimeError, ValueError, OSError) as error:
            raise RelayError(
                f"{path} is no TorchScript network ({first_line(error)}); "
                "give NVIDIA's inception-2015-12-05.pt"
            ) from error

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.network(pictures, return_features=True)
        return features


def features_of(module: nn.Module, pictures: Iterable[Image.Image], device: torch.device) -> Tensor:
    """Vectors of pictures of any sizes, (N, D), on the CPU."""
    batches = (as_bytes(batch).to(device) for batch in in_batches(pictures, BATCH_SIZE))
    return torch.cat([module(batch).cpu() for batch in batches])


def in_batches(pictures: Iterable[Image.Image], num: int) -> Iterator[list[Image.Image]]:
    """Pictures in order, up to ``num`` of one size at a time."""
    batch: list[Image.Image] = []
    for picture in pictures:
        if batch and (len(batch) == num or picture.size != batch[0].size):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch


def as_bytes(pictures: list[Image.Image]) -> Tensor:
    """Pictures of one size as (B, 3, H, W) uint8."""
    return ((to_pixels(pictures) + 1) * 127.5).round().byte()
