"""From a stream of pictures and captions to the batches of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from relay_diffusion.data.view import View
from relay_diffusion.training import distributed
from relay_diffusion.training.data_settings import Data
from relay_diffusion.training.draws import Draws, permutation

Batch = dict[str, Tensor]
"""Tensors with the samples along the first dimension, on the device of the run."""


class Pictures(Protocol):
    """One batch of the data.

    Attributes:
        x: (B, 3, H, W) float32 in [-1, 1].
        captions: B of them.
        time_ids: (B, 6) original height and width, crop top and left, target height and width.
        whole: False for windows of larger pictures.
    """

    @property
    def x(self) -> Tensor: ...

    @property
    def captions(self) -> Sequence[str]: ...

    @property
    def time_ids(self) -> Tensor: ...

    @property
    def whole(self) -> bool: ...


class Stream(Protocol):
    """Data without end; every batch is a function of the stream's seed and ``step`` alone.

    ``rows`` are those of the batch that are wanted, all of them by default.
    """

    def batch(self, step: int, batch_size: int, rows: range | None = None) -> Pictures: ...

    def caption_pairs(self, step: int, batch_size: int) -> Sequence[tuple[str, str]]:
        """Two captions of each picture, without the pictures."""
        ...


Described = TypeVar("Described")


class DescribedStream(Stream, Protocol[Described]):
    """A stream whose batches come in two calls: one that may run ahead in worker processes, and one
    on the device of the run, in the main process. ``batch`` is the one after the other."""

    def describe(self, step: int, batch_size: int, rows: range | None = None) -> Described: ...

    def draw(self, described: Described) -> Pictures: ...


Split = Literal["train", "held-out"]
Source = Callable[[Split, Sequence[View]], Stream]
"""(split, views) -> stream."""


class Feed:
    """The batches of a run: ``feed(step)``, a function of the step, so resuming needs no position.
    Each process gets its rows of the batch, and prepares no others.

    ``prepare`` does what does not depend on training (tokens, latents). Where that is dear, a
    *chapter* of ``data.chapter`` batches is prepared at once and visited ``data.reuse`` times, each
    time in another order; the processes prepare their shares of it and hand them around.

    Args:
        stream: the pictures.
        prepare: called without gradients, with draws of its own.
        data: from the recipe.
        seed: of the run.
        device: where batches go.
    """

    def __init__(
        self,
        stream: Stream,
        prepare: Callable[[Pictures, Draws], Batch],
        data: Data,
        seed: int,
        device: torch.device,
    ) -> None:
        self.stream = stream
        self.prepare = prepare
        self.data = data
        self.seed = seed
        self.device = device
        self._chapter: tuple[int, Batch] | None = None

    def __call__(self, step: int) -> Batch:
        if self.data.reuse == 1:
            return self._prepared(step)
        chapter, within = divmod(step, self.data.chapter * self.data.reuse)
        visit, position = divmod(within, self.data.chapter)
        kept = self._open_chapter(chapter)
        size = self.data.batch_size
        order = permutation(
            self.seed, "visit", chapter * self.data.reuse + visit, size * self.data.chapter
        )
        share = distributed.share(size)
        first = position * size + share.start
        # Without waiting for what the device still has to do.
        rows = order[first : first + len(share)].to(self.device, non_blocking=True)
        return {name: values[rows] for name, values in kept.items()}

    def _open_chapter(self, chapter: int) -> Batch:
        if self._chapter is None or self._chapter[0] != chapter:
            self._chapter = None  # frees the last one before the next is made
            first = chapter * self.data.chapter
            parts = [self._prepared(first + i) for i in range(self.data.chapter)]
            shares = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
            kept = {name: _whole_batches(values) for name, values in shares.items()}
            self._chapter = (chapter, kept)
        return self._chapter[1]

    @torch.no_grad()
    def _prepared(self, index: int) -> Batch:
        size = self.data.batch_size
        share = distributed.share(size)
        rows = torch.arange(share.start, share.stop, device=self.device)
        pictures = self.stream.batch(index, size, share)
        return self.prepare(pictures, Draws(self.seed, "prepare", index, rows, size))


def _whole_batches(shares: Tensor) -> Tensor:
    """Rows of whole batches, one after the other, from this process's shares (batches, rows, ...)
    of them and what the others have."""
    by_process = distributed.gathered(shares[None])
    return by_process.transpose(0, 1).flatten(0, 2)


def as_in_training(device: torch.device) -> torch.autocast:
    """Inside, pictures are made and encoded in the precision of the feed, not in that of the run,
    which surrounds validation and previews."""
    return torch.autocast(device.type, enabled=False)
