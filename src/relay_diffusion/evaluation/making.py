"""Making the pictures of a suite, batch by batch, each kept as soon as it is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from relay_diffusion.evaluation.logbook import Batch, Logbook, writing_to
from relay_diffusion.evaluation.memory import forget_peak, peak_bytes
from relay_diffusion.evaluation.painters import Painter
from relay_diffusion.evaluation.suites.prompt import Suite
from relay_diffusion.pipelines.metadata import save_picture

_WARM_UP = "a red fox on a meadow"


@dataclass(frozen=True)
class Planned:
    """A picture to be made: of a prompt, by its number in the suite, with a seed."""

    prompt: str
    number: int
    seed: int
    path: Path


def plan(suite: Suite, folder: Path, num_images: int, seed: int) -> list[Planned]:
    """Picture j of prompt i has seed ``seed + i * num_images + j``, for every model.

    Args:
        folder: of the pictures of one model and this suite.
    """
    return [
        Planned(prompt.text, i, own, folder / f"{i:04d}_{own}.png")
        for i, prompt in enumerate(suite.prompts)
        for own in range(seed + i * num_images, seed + (i + 1) * num_images)
    ]


class Maker:
    """Makes what is missing of a model's pictures; opens the model only if something is."""

    def __init__(
        self,
        model: str,
        open_painter: Callable[[], Painter],
        device: torch.device,
        batch_size: int,
        logbook: Logbook,
    ) -> None:
        self.model, self.device, self.batch_size, self.logbook = model, device, batch_size, logbook
        self._open = open_painter
        self._painter: Painter | None = None

    def make(self, suite: str, planned: Sequence[Planned]) -> Iterator[int]:
        """Yields the number of pictures there are after each batch.

        A batch counts as made when all its pictures and its line in the logbook are there. It is
        made again whole or not at all: in another batch, rounding would change a picture.
        """
        for number, start in enumerate(range(0, len(planned), self.batch_size)):
            part = planned[start : start + self.batch_size]
            noted = (self.model, suite, number) in self.logbook.batches
            if not noted or not all(picture.path.is_file() for picture in part):
                self._make(suite, number, part)
            yield start + len(part)

    @property
    def painter(self) -> Painter:
        """The model, opened and warmed up by one picture that nobody sees, so that no batch's time
        has the loading of a language model in it either."""
        if self._painter is None:
            self._painter = self._open()
            self._painter.paint(self._painter.expand([_WARM_UP], [0]), [0])
        return self._painter

    def _make(self, suite: str, number: int, part: Sequence[Planned]) -> None:
        painter, seeds = self.painter, [one.seed for one in part]
        started = time.perf_counter()
        texts = painter.expand([one.prompt for one in part], seeds)
        expansion_seconds = time.perf_counter() - started
        forget_peak(self.device)
        started = time.perf_counter()
        pictures = painter.paint(texts, seeds)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds, peak = time.perf_counter() - started, peak_bytes(self.device)
        for one, text, picture in zip(part, texts, pictures, strict=True):
            record = painter.record(one.prompt, one.seed, text)
            with writing_to(self.logbook.out):
                one.path.parent.mkdir(parents=True, exist_ok=True)
                save_picture(picture, one.path, *record)
        typed = sum(text == one.prompt for one, text in zip(part, texts, strict=True))
        self.logbook.add(
            Batch(self.model, suite, number, len(part), seconds, peak, expansion_seconds, typed)
        )


def speed(batches: Sequence[Batch]) -> dict[str, Any]:
    """How long pictures took: medians over the largest batches, the last one being smaller."""
    batch_size = max(batch.num_pictures for batch in batches)
    full = [batch for batch in batches if batch.num_pictures == batch_size]
    return {
        "seconds_per_batch": median(batch.seconds for batch in full),
        "seconds_per_picture": median(batch.seconds / batch.num_pictures for batch in full),
        "expansion_seconds_per_picture": median(
            batch.expansion_seconds / batch.num_pictures for batch in full
        ),
        "batch_size": batch_size,
        "peak_bytes": max(batch.peak_bytes for batch in batches),
    }
