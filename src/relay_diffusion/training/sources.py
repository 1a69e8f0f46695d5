"""Opens the data that a recipe names."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.data.scenes.stream import SceneBatch, SceneDescription, SceneStream
from relay_diffusion.data.scenes.words import build_tokenizer
from relay_diffusion.data.scenes.world import World
from relay_diffusion.data.view import View
from relay_diffusion.training.feed import Source, Split, Stream
from relay_diffusion.training.networks import load_tokenizer
from relay_diffusion.training.recipe import Data, Recipe


def open_world(data: Data) -> World:
    return World.by_name(data.world)


def open_tokenizer(recipe: Recipe) -> Any:
    """The recipe's own, or the one of its world."""
    if recipe.model.tokenizer:
        return load_tokenizer(recipe.model.tokenizer)
    return build_tokenizer()


def open_source(data: Data, seed: int, device: torch.device) -> Source:
    """Streams of the recipe's data, drawn on ``device``.

    Held-out pictures do not depend on the seed of the run.
    Raises: RelayError if the atlas is not there, or lacks a drawing.
    """
    world = open_world(data)
    atlas = Atlas.load(data.atlas, world.subjects).to(device)

    def source(split: Split, views: Sequence[View]) -> Stream:
        stream = SceneStream(
            world,
            atlas,
            views,
            seed if split == "train" else 0,
            split,
            data.short_captions,
        )
        return Ahead(stream, data.workers) if split == "train" and data.workers else stream

    return source


class Ahead:
    """A scene stream whose descriptions (plain Python) are made ahead by worker processes."""

    def __init__(self, stream: SceneStream, workers: int) -> None:
        self.stream = stream
        self.workers = workers
        self._next: int | None = None
        self._descriptions: Iterator[SceneDescription] = iter(())

    def batch(self, step: int, batch_size: int) -> SceneBatch:
        if step != self._next:
            loader = DataLoader(
                _Descriptions(self.stream, step, batch_size),
                batch_size=None,
                num_workers=self.workers,
                prefetch_factor=4,
                multiprocessing_context="fork",
                worker_init_fn=_outlive_signals,
            )
            self._descriptions = iter(loader)
        self._next = step + 1
        return self.stream.draw(next(self._descriptions))

    def caption_pairs(self, step: int, batch_size: int) -> list[tuple[str, str]]:
        return self.stream.caption_pairs(step, batch_size)


def _outlive_signals(worker: int) -> None:
    """A SIGTERM to the group is for the main process, which saves, and then ends its workers."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class _Descriptions(IterableDataset[SceneDescription]):
    """Of steps ``first``, ``first`` + 1, ...; worker w of n makes every n-th, and the loader asks
    them in turn, so that they come in order."""

    def __init__(self, stream: SceneStream, first: int, batch_size: int) -> None:
        self.stream, self.first, self.batch_size = stream, first, batch_size

    def __iter__(self) -> Iterator[SceneDescription]:
        worker = get_worker_info()
        start, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        step = self.first + start
        while True:
            yield self.stream.describe(step, self.batch_size)
            step += stride
