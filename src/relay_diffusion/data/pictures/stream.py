"""An endless stream of real pictures: pixels, captions and size conditioning by step number.

Every batch is a pure function of (seed, step): the step tells the epoch, the epoch its plan. What
takes time, reading and decoding, is ``describe``, which may run ahead in worker processes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relay_diffusion.data.batch import PictureBatch
from relay_diffusion.data.buckets import Bucket, nearest, view_buckets
from relay_diffusion.data.pictures.collection import Collection, Split
from relay_diffusion.data.pictures.cropping import as_input, cropped
from relay_diffusion.data.pictures.faults import BadRecord, PictureFault
from relay_diffusion.data.pictures.plan import Epochs, num_batches, plan_epoch
from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError

ATTEMPTS = 20
"""Records tried in the place of one that cannot be decoded, half of them of the same shape."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodedBatch:
    """A batch on its way: ``pixels`` (B, H, W, 3) uint8, the records that were replaced, whether
    pictures are ``whole``."""

    pixels: Tensor
    captions: list[str]
    time_ids: list[list[int]]
    bad: list[BadRecord]
    whole: bool


class PictureStream:
    """Batches of a collection by step.

    Args:
        collection: the pictures.
        views: sizes; each record is seen in one of them each epoch, in proportion to its weight.
        seed: two streams of one seed are equal.
        split: "train" crops at random, "held-out" in the centre.
        multiple, max_aspect: of the buckets, see :func:`buckets`.
        device: where pictures are made.
        report: called with each bad record when it is first met; by default a line of warning.
    Attributes:
        bad: records that could not be decoded, and were replaced, so far.
    """

    def __init__(
        self,
        collection: Collection,
        views: Sequence[View],
        seed: int = 0,
        split: Split = "train",
        multiple: int = 0,
        max_aspect: float = 2.0,
        device: torch.device | str = "cpu",
        report: Callable[[BadRecord], None] | None = None,
    ) -> None:
        self.collection, self.views, self.seed, self.split = collection, views, seed, split
        self.device = device
        self.report = report or _warn
        self.bad: dict[str, BadRecord] = {}
        self.members = collection.part(split)
        heights, widths = collection.heights[self.members], collection.widths[self.members]
        self.buckets: list[Bucket] = []
        by_view = []
        for view in views:
            shapes = view_buckets(view, multiple, max_aspect)
            by_view.append(len(self.buckets) + nearest(shapes, heights, widths))
            self.buckets += shapes
        weights = [view.weight for view in views]
        self._epochs = Epochs(
            seed,
            lambda size: num_batches(len(self.members), size),
            lambda size, name: plan_epoch(self.members, by_view, weights, size, name),
        )

    def describe(self, step: int, batch_size: int, rows: range | None = None) -> DecodedBatch:
        """Read, decode and crop a batch, or some rows of it.

        Raises: RelayError if hardly any picture can be decoded.
        """
        plan, position = self._epochs.at(step, batch_size)
        bucket = self.buckets[plan.shapes[position]]
        bad: list[BadRecord] = []
        pictures, captions, time_ids = [], [], []
        records = plan.rows[position].tolist()
        for row in range(batch_size) if rows is None else rows:
            record = records[row]
            draw = random.Random(f"picture {self.seed} {step * batch_size + row}")
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    caption, pixels, ids = self._made(record, bucket, draw)
                    break
                except PictureFault as fault:
                    key = self.collection.records.key(record)
                    bad.append(BadRecord(key, fault.kind, fault.detail))
                among = self.members
                if attempt <= ATTEMPTS // 2 and (plan.shape_of == plan.shapes[position]).any():
                    among = among[plan.shape_of == plan.shapes[position]]
                record = int(among[draw.randrange(len(among))])
            else:
                raise RelayError(
                    f"{ATTEMPTS} pictures in a row cannot be used, the last is {bad[-1].key} "
                    f"({bad[-1].reason}); check data.path"
                )
            captions.append(caption)
            pictures.append(pixels)
            time_ids.append(ids)
        seen = torch.from_numpy(np.stack(pictures))
        return DecodedBatch(seen, captions, time_ids, bad, whole=bucket.size == 0)

    def draw(self, described: DecodedBatch) -> PictureBatch:
        """The batch as a run wants it; in the main process, so that faults are counted there."""
        for bad in described.bad:
            if bad.key not in self.bad:
                self.bad[bad.key] = bad
                self.report(bad)
        x = as_input(described.pixels.to(self.device))
        time_ids = torch.tensor(described.time_ids, dtype=torch.float32, device=self.device)
        return PictureBatch(x, described.captions, time_ids, whole=described.whole)

    def batch(self, step: int, batch_size: int, rows: range | None = None) -> PictureBatch:
        return self.draw(self.describe(step, batch_size, rows))

    def caption_pairs(self, step: int, batch_size: int) -> list[tuple[str, str]]:
        """Two captions of each picture of a batch, of two fields where there are two.

        Raises: RelayError if there is one field only.
        """
        plan, position = self._epochs.at(step, batch_size)
        records = plan.rows[position].tolist()
        captions = (self.collection.records.texts(record).captions for record in records)
        return self.collection.mix.pairs(captions, self.seed, step * batch_size)

    def _made(
        self, record: int, bucket: Bucket, draw: random.Random
    ) -> tuple[str, np.ndarray, list[int]]:
        """Caption, pixels (H, W, 3) uint8 and size conditioning of a record."""
        texts = self.collection.records.texts(record)
        caption = self.collection.mix.choose(texts.captions, draw)
        if caption is None:
            raise PictureFault("no caption")
        stored = int(self.collection.heights[record]), int(self.collection.widths[record])

        def corner(spare: int) -> int:
            return draw.randint(0, spare) if self.split == "train" else spare // 2

        with self.collection.records.open(record) as file:
            pixels, ids = cropped(file, stored, bucket, corner, texts.original_size)
        return caption, pixels, ids


def _warn(bad: BadRecord) -> None:
    log.warning("left out, another picture in its place: %s", bad)
