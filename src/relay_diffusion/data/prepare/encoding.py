"""The second pass: latents and tokens of a range of records, as a shard."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relay_diffusion.data.buckets import Bucket, nearest
from relay_diffusion.data.coverage import Coverage, coverage_of
from relay_diffusion.data.pictures.cropping import Pixels, as_input, cropped
from relay_diffusion.data.pictures.faults import PictureFault
from relay_diffusion.data.pictures.opening import open_records
from relay_diffusion.data.prepare.cascade import open_text_encoder, open_tokenizer, open_vae
from relay_diffusion.data.prepare.settings import Settings
from relay_diffusion.data.prepare.shard import (
    TIME_IDS,
    Z_0,
    Z_LR,
    Z_LR_THROUGH,
    Coverages,
    Faults,
    Sample,
    ShardFile,
    embeddings_of,
    tokens_of,
)
from relay_diffusion.models.autoencoder import encode
from relay_diffusion.models.low_resolution import low_resolution
from relay_diffusion.models.text import encode_text, tokenize

DECODERS = 8
"""Threads that decode ahead of a GPU; beside the networks on a core there is room for one."""


@dataclass(frozen=True)
class Read:
    """A record on its way to the encoders."""

    record: int
    key: str
    pixels: Pixels
    time_ids: list[int]
    captions: dict[str, str]


class Encoder:
    """Writes shards; one in each worker, with networks of its own.

    What a shard holds depends on its records, the settings and the networks alone: batches never
    cross shards, and a crop is drawn from the picture's key.

    Args:
        pictures: as ``open_records`` takes it.
        out: the prepared folder.
        cascade: folder of the cascade.
        max_tokens: length of a tokenized caption.
        device: "auto" is the GPU if the worker sees one.
    """

    def __init__(
        self,
        pictures: str,
        out: Path,
        cascade: Path,
        settings: Settings,
        max_tokens: int,
        device: str = "auto",
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        if self.device.type == "cpu":
            # Workers share the cores, and how sums are split must not depend on how many there are.
            torch.set_num_threads(1)
        self.records = open_records(pictures)
        self.out, self.settings, self.max_tokens = out, settings, max_tokens
        self.threads = 1 if self.device.type == "cpu" else DECODERS
        self.vae = open_vae(cascade).to(self.device)
        self.tokenizer = open_tokenizer(cascade)
        self.text_encoder = None
        if settings.embeddings:
            self.text_encoder = open_text_encoder(cascade, settings.dtype).to(self.device)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Args: item: {"shard": number, "rows": JSON of [[record, height, width], ...]}.
        Returns: the shard's number, and how many records ``num`` were to go into it.
        """
        rows = json.loads(item["rows"])
        faults: Faults = {}
        covered: Coverages = {}
        samples = self._samples(rows, faults, covered)
        ShardFile(self.out, int(item["shard"])).write(item["rows"], samples, faults, covered)
        return {"shard": int(item["shard"]), "num": len(rows)}

    def _samples(
        self, rows: list[list[int]], faults: Faults, covered: Coverages
    ) -> Iterator[Sample]:
        """By bucket, within it by record; ``faults`` gets those that cannot be used after all,
        ``covered`` how much of the captions of the others the networks can read."""
        shapes = self.settings.buckets
        sizes = np.array(rows, np.int64).reshape(-1, 3)
        homes = nearest(shapes, sizes[:, 1], sizes[:, 2])
        batches: list[tuple[int, list[list[int]]]] = []
        for home in np.unique(homes).tolist():
            members = [row for row, its in zip(rows, homes, strict=True) if its == home]
            for start in range(0, len(members), self.settings.batch_size):
                batches.append((home, members[start : start + self.settings.batch_size]))
        with ThreadPoolExecutor(self.threads) as pool:

            def begun(number: int) -> Iterator[Read | None]:
                if number == len(batches):
                    return iter(())
                home, members = batches[number]
                return pool.map(lambda row: self._read(row, shapes[home], faults), members)

            ahead = begun(0)
            for number, (home, _) in enumerate(batches):
                now, ahead = ahead, begun(number + 1)  # read while this batch is encoded
                read = [one for one in now if one is not None]
                for name in sorted({name for one in read for name in one.captions}):
                    texts = [one.captions[name] for one in read if name in one.captions]
                    counts = coverage_of(self.tokenizer, texts, self.max_tokens)
                    covered[name] = covered.get(name, Coverage()) + counts
                yield from self._encoded(read, home, faults)

    def _read(self, row: list[int], bucket: Bucket, faults: Faults) -> Read | None:
        record, height, width = row
        key = self.records.key(record)
        draw = random.Random(f"crop {key}")
        try:
            texts = self.records.texts(record)
            with self.records.open(record) as file:
                pixels, time_ids = cropped(
                    file,
                    (height, width),
                    bucket,
                    lambda spare: draw.randint(0, spare),
                    texts.original_size,
                )
        except PictureFault as fault:
            faults[record] = fault
            return None
        return Read(record, key, pixels, time_ids, self.settings.chosen(texts.captions))

    @torch.inference_mode()
    def _encoded(self, read: list[Read], bucket: int, faults: Faults) -> Iterator[Sample]:
        if not read:
            return
        x = as_input(torch.from_numpy(np.stack([one.pixels for one in read])).to(self.device))
        latents = {Z_0: encode(self.vae, x)}
        if self.settings.low_resolution:
            for name, through in ((Z_LR, False), (Z_LR_THROUGH, True)):
                passes = torch.full((len(x),), through, device=self.device)
                latents[name] = encode(self.vae, low_resolution(self.vae, x, passes))
        halves = {name: z.half().cpu().contiguous() for name, z in latents.items()}
        texts = self._texts(read)
        for i, one in enumerate(read):
            # Cloned: safetensors refuses tensors that share memory.
            tensors = {name: z[i].clone() for name, z in halves.items()}
            if not all(bool(z.isfinite().all()) for z in tensors.values()):
                faults[one.record] = PictureFault("latents not finite")
                continue
            tensors[TIME_IDS] = torch.tensor(one.time_ids, dtype=torch.int32)
            yield Sample(one.record, one.key, bucket, one.captions, tensors | texts[i])

    def _texts(self, read: list[Read]) -> list[dict[str, Tensor]]:
        """Tokens, and embeddings if wanted, of each caption of each record."""
        where = [(i, field) for i, one in enumerate(read) for field in sorted(one.captions)]
        captions = [read[i].captions[field] for i, field in where]
        ids = tokenize(self.tokenizer, captions, self.max_tokens)
        texts: list[dict[str, Tensor]] = [{} for _ in read]
        for row, (i, field) in enumerate(where):
            texts[i][tokens_of(field)] = ids[row].int()
        if self.text_encoder is not None:
            for start in range(0, len(where), self.settings.batch_size):
                chosen = slice(start, start + self.settings.batch_size)
                embedded = encode_text(self.text_encoder, ids[chosen].to(self.device))
                for context, (i, field) in zip(embedded.half().cpu(), where[chosen], strict=True):
                    texts[i][embeddings_of(field)] = context.clone()
        return texts
