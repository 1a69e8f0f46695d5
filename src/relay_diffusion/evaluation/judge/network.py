"""The judge's network: a picture in, what is where in it out.

A small residual network with a 16x16 map of what stands in each cell (as CenterNet,
arXiv:1904.07850, has it: a thing is a peak of its subject's heat map, with its tint, offset and
size read at that cell) and one reading of the whole picture for background and style. It has
nothing in common with the generator: pixels in, no autoencoder, no shared weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 128
"""Pixels a side that the network looks at; larger pictures are brought down to it."""

CELLS = 16
NO_TINT = "own colours"


@dataclass(frozen=True)
class Answers:
    """What the judge can say: the names behind each output, in order."""

    subjects: tuple[str, ...]
    tints: tuple[str, ...]
    backgrounds: tuple[str, ...]
    styles: tuple[str, ...]

    def to_dict(self) -> dict[str, list[str]]:
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Answers:
        return cls(**{name: tuple(values[name]) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Reading:
    """The network's raw outputs for B pictures.

    Attributes:
        heat: (B, S, 16, 16) logits, a peak where a thing of that subject has its centre.
        tint: (B, T, 16, 16) logits of tints (the first is "own colours").
        box: (B, 3, 16, 16) centre's offset in the cell, x and y in [0, 1], and log2 of the size.
        background: (B, N) logits. style: (B, N) logits.
    """

    heat: Tensor
    tint: Tensor
    box: Tensor
    background: Tensor
    style: Tensor


class JudgeNetwork(nn.Module):
    """Reads pictures (B, 3, H, W) in [-1, 1], of any size, square or not."""

    def __init__(self, answers: Answers, width: int = 32) -> None:
        super().__init__()
        self.answers, self.width = answers, width
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1), nn.SiLU(), _down(width, 2 * width)
        )
        self.fine = nn.Sequential(*[_Residual(2 * width) for _ in range(2)])
        self.middle = nn.Sequential(
            _down(2 * width, 4 * width), *[_Residual(4 * width) for _ in range(3)]
        )
        self.coarse = nn.Sequential(
            _down(4 * width, 6 * width), *[_Residual(6 * width) for _ in range(3)]
        )
        self.lateral = nn.Conv2d(6 * width, 4 * width, 1)
        self.join = nn.Sequential(*[_Residual(4 * width) for _ in range(2)], _norm(4 * width))
        subjects, tints = len(answers.subjects), len(answers.tints)
        self.heat = nn.Conv2d(4 * width, subjects, 1)
        self.tint = nn.Conv2d(4 * width, tints, 1)
        self.box = nn.Conv2d(4 * width, 3, 1)
        self.background = nn.Linear(6 * width, len(answers.backgrounds))
        self.style = nn.Linear(6 * width, len(answers.styles))
        # A thing is rare: start from a one per cent belief in each cell (arXiv:1708.02002, 4.1).
        nn.init.constant_(self.heat.bias, -4.6)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Reading:
        middle, coarse = self._maps(x)
        up = F.interpolate(self.lateral(coarse), scale_factor=2, mode="nearest")
        cells = F.silu(self.join(middle + up))
        whole = coarse.mean((2, 3))
        offset, size = self.box(cells).split([2, 1], dim=1)
        return Reading(
            self.heat(cells),
            self.tint(cells),
            torch.cat([offset.sigmoid(), size], 1),
            self.background(whole),
            self.style(whole),
        )

    def features(self, x: Tensor) -> Tensor:
        """What the whole picture is read from, (B, 6 * width): background, style, and how much of
        what there is. For distances between sets of pictures."""
        return self._maps(x)[1].mean((2, 3))

    def _maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The maps at 16x16 and 8x8 cells."""
        if x.shape[-2:] != (SIDE, SIDE):
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
        middle = self.middle(self.fine(self.stem(x)))
        return middle, self.coarse(middle)


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(8, channels)


def _down(channels: int, out: int) -> nn.Module:
    return nn.Sequential(_norm(channels), nn.Conv2d(channels, out, 3, stride=2, padding=1))


class _Residual(nn.Module):
    """Pre-activation residual block (arXiv:1603.05027)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.body = nn.Sequential(
            _norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            _norm(channels),
            nn.SiLU(),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)
