"""Opens the data that a recipe names."""

from __future__ import annotations

import atexit
import random
import signal
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from relay_diffusion.data.coverage import Coverage, coverage_of
from relay_diffusion.data.pictures.collection import Collection, open_collection
from relay_diffusion.data.pictures.faults import PictureFault
from relay_diffusion.data.pictures.stream import PictureStream
from relay_diffusion.data.prepare.reading import Prepared
from relay_diffusion.data.prepare.stream import PreparedStream
from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.data.scenes.stream import SceneStream
from relay_diffusion.data.scenes.words import build_tokenizer
from relay_diffusion.data.scenes.world import World
from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError
from relay_diffusion.training import distributed
from relay_diffusion.training.cached import warn_of_unread
from relay_diffusion.training.data_settings import Data
from relay_diffusion.training.feed import (
    Described,
    DescribedStream,
    Pictures,
    Source,
    Split,
    Stream,
)
from relay_diffusion.training.networks import load_tokenizer
from relay_diffusion.training.recipe import Recipe


def open_world(data: Data) -> World:
    return World.by_name(data.world)


def open_tokenizer(recipe: Recipe) -> Any:
    """The recipe's own, or the one of its world. Raises: RelayError if there is neither."""
    if recipe.model.tokenizer:
        return load_tokenizer(recipe.model.tokenizer)
    if recipe.data.source != "scenes":
        raise RelayError(
            "model.tokenizer is empty, which is the tokenizer of the scene world; for pictures "
            "give the folder of one, such as the tokenizer/ of the cascade to start from, or of "
            "the one that prepared them"
        )
    return build_tokenizer()


Read = Callable[[Sequence[str]], Coverage]
"""How much of captions the networks can read."""


def reader(tokenizer: Any, max_tokens: int) -> Read | None:
    """Of networks that read so many tokens; None without a tokenizer."""
    if tokenizer is None:
        return None
    return lambda captions: coverage_of(tokenizer, captions, max_tokens)


def open_source(
    data: Data,
    seed: int,
    device: torch.device,
    embeddings: bool = False,
    read: Read | None = None,
    num_samples: int = 0,
) -> Source:
    """Streams of the recipe's data, drawn on ``device``.

    Held-out pictures do not depend on the seed of the run.

    Args:
        embeddings: take the text embeddings of prepared data, where there are any.
        read: to warn of captions that the networks cannot read; prepared ones were counted.
        num_samples: of the whole run, to say how often each picture is seen.
    Raises: RelayError if the atlas is not there, or lacks a drawing; if there are no pictures at
        ``data.path``, or its captions are not those of the recipe.
    """
    if data.source == "scenes":
        stream_of = _scenes(data, device)
    elif data.source == "pictures":
        stream_of = _pictures(data, device, read, num_samples)
    else:
        stream_of = _prepared(data, device, embeddings, num_samples)

    def source(split: Split, views: Sequence[View]) -> Stream:
        if split == "held-out":
            return stream_of(split, views, 0)
        stream = stream_of(split, views, seed)
        return Ahead(stream, data.workers) if data.workers else stream

    return source


StreamOf = Callable[[Split, Sequence[View], int], DescribedStream[Any]]
"""(split, views, seed) -> stream."""


def _scenes(data: Data, device: torch.device) -> StreamOf:
    world = open_world(data)
    atlas = Atlas.load(data.atlas, world.subjects).to(device)
    return lambda split, views, seed: SceneStream(
        world, atlas, views, seed, split, data.short_captions
    )


def _pictures(data: Data, device: torch.device, read: Read | None, num_samples: int) -> StreamOf:
    collection = open_collection(data.path, data.captions, data.min_size, data.held_out)
    if read is not None:
        warn_of_unread(data.path, read(some_captions(collection)))
    _say_size(data.path, collection, num_samples)
    return lambda split, views, seed: PictureStream(
        collection, views, seed, split, data.multiple, data.max_aspect, device
    )


def some_captions(collection: Collection, num: int = 300) -> list[str]:
    """Of so many records at most, from all over the collection, as the recipe mixes them."""
    members = collection.part("train")
    captions = []
    for record in members[:: max(1, -(-len(members) // num))].tolist():
        try:
            texts = collection.records.texts(record).captions
        except PictureFault:
            continue  # named when its turn comes
        caption = collection.mix.choose(texts, random.Random(f"caption {record}"))
        captions += [] if caption is None else [caption]
    return captions


def _prepared(data: Data, device: torch.device, embeddings: bool, num_samples: int) -> StreamOf:
    prepared = Prepared(Path(data.path), data.captions, data.held_out)
    _say_size(data.path, prepared, num_samples)
    wanted = embeddings and data.embeddings
    # The view is the one that was prepared, which check_prepared holds the recipe to.
    return lambda split, views, seed: PreparedStream(prepared, seed, split, wanted, device)


def _say_size(path: str, pictures: Collection | Prepared, num_samples: int) -> None:
    """How many pictures there are to learn from, how many are held out, and how often each is seen
    in a run of so many samples."""
    learned, held = (len(pictures.part(split)) for split in ("train", "held-out"))
    if num_samples and distributed.is_main():
        print(
            f"{path}: {learned:,} pictures to learn from, each {num_samples / learned:,.3g} times; "
            f"{held:,} held out",
            file=sys.stderr,
            flush=True,
        )


class Ahead(Generic[Described]):
    """A stream whose descriptions are made ahead by worker processes."""

    def __init__(self, stream: DescribedStream[Described], workers: int) -> None:
        self.stream = stream
        self.workers = workers
        self._next: int | None = None
        self._descriptions: Iterator[Described | RelayError] = iter(())
        _open.add(self)

    def batch(self, step: int, batch_size: int, rows: range | None = None) -> Pictures:
        if step != self._next:
            loader = DataLoader(
                _Descriptions(self.stream, step, batch_size, rows),
                batch_size=None,
                num_workers=self.workers,
                prefetch_factor=4,
                multiprocessing_context="fork",
                worker_init_fn=_outlive_signals,
            )
            self._descriptions = iter(loader)
        self._next = step + 1
        described = next(self._descriptions)
        if isinstance(described, RelayError):
            raise described
        return self.stream.draw(described)

    def caption_pairs(self, step: int, batch_size: int) -> Sequence[tuple[str, str]]:
        return self.stream.caption_pairs(step, batch_size)

    def end(self) -> None:
        """Let its workers go."""
        self._descriptions = iter(())


_open: weakref.WeakSet[Ahead[Any]] = weakref.WeakSet()


@atexit.register
def _end_workers() -> None:
    """Python waits at exit for workers that somebody still holds, such as an error's traceback, and
    they ignore the signal that they are to end by."""
    for ahead in list(_open):
        ahead.end()


def _outlive_signals(worker: int) -> None:
    """A SIGTERM to the group is for the main process, which saves, and then ends its workers."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class _Descriptions(IterableDataset[Any]):
    """Of steps ``first``, ``first`` + 1, ...; worker w of n makes every n-th, and the loader asks
    them in turn, so that they come in order. An error that speaks to the user comes in the place of
    a description: the loader would raise it with the worker's traceback as its text."""

    def __init__(
        self,
        stream: DescribedStream[Any],
        first: int,
        batch_size: int,
        rows: range | None,
    ) -> None:
        self.stream, self.first, self.batch_size, self.rows = stream, first, batch_size, rows

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        start, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        step = self.first + start
        while True:
            try:
                yield self.stream.describe(step, self.batch_size, self.rows)
            except RelayError as error:
                yield error
                return
            step += stride
