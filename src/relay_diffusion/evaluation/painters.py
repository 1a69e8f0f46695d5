"""Models of any kind, opened, behind one call: prompts and seeds in, pictures out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image


@dataclass(frozen=True)
class Where:
    """What models run on.

    Attributes:
        dtype: of the networks; None: the model's own on an accelerator, float32 on the CPU.
    """

    device: torch.device
    dtype: torch.dtype | None = None
    low_memory: bool = False


class Record(NamedTuple):
    """How a picture was made, for its file: as data, and for people."""

    values: dict[str, Any]
    readable: str


class Painter(Protocol):
    """A model, ready.

    Attributes:
        resolved: its settings, nothing left open: "steps" as tables have it, "size", ...
    """

    resolved: dict[str, Any]

    def expand(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """The text that each picture is to be made of: its prompt, where nothing is expanded."""

    def paint(self, texts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """A picture for each text, from a generator of its own with that seed."""

    def record(self, prompt: str, seed: int, text: str) -> Record:
        """What ``relay generate`` would keep of it; ``text`` is what ``expand`` made of it."""


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """On the CPU, so that a seed means the same noise on every device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
