"""An endless stream of prepared samples: latents and tokens by step number.

As with pictures, every batch is a pure function of (seed, step), and has one shape.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relay_diffusion.data.pictures.collection import Split
from relay_diffusion.data.pictures.plan import Epochs, num_batches, plan_encoded
from relay_diffusion.data.prepare.reading import Prepared
from relay_diffusion.data.prepare.shard import (
    TIME_IDS,
    Z_0,
    Z_LR,
    Z_LR_THROUGH,
    embeddings_of,
    tokens_of,
)
from relay_diffusion.errors import RelayError


@dataclass(frozen=True)
class PreparedBatch:
    """A batch of what encoding gives.

    Attributes:
        z_0: latents, (B, C, H / 8, W / 8), float16 as stored.
        input_ids: tokens of the chosen captions, (B, L) int64.
        captions: B strings.
        time_ids: (B, 6) size conditioning, as of :class:`PictureBatch`.
        z_lr, z_lr_through: as ``z_0``, of the low-resolution picture enlarged, without and with a
            pass through the autoencoder; None if they were not kept.
        embeddings: (B, L, D) float16 of ``input_ids``; None if not kept, or not asked for.
        whole: False for windows of larger pictures.
    """

    z_0: Tensor
    input_ids: Tensor
    captions: list[str]
    time_ids: Tensor
    z_lr: Tensor | None = None
    z_lr_through: Tensor | None = None
    embeddings: Tensor | None = None
    whole: bool = True

    @property
    def x(self) -> Tensor:
        """Raises: RelayError: the pixels were not kept."""
        raise RelayError(
            "prepared data hold latents and no pixels, which this objective needs: "
            "train it with data.source = 'pictures'"
        )


class PreparedStream:
    """Batches of a prepared folder by step.

    Args:
        seed: two streams of one seed are equal.
        embeddings: take text embeddings along, where they were kept.
        device: where batches go.
    """

    def __init__(
        self,
        prepared: Prepared,
        seed: int = 0,
        split: Split = "train",
        embeddings: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.prepared, self.seed, self.device = prepared, seed, device
        settings = prepared.manifest.settings
        self.low_resolution = settings.low_resolution
        self.embeddings = embeddings and settings.embeddings
        members = prepared.part(split)
        shapes = prepared.buckets[members]
        counts = np.unique(shapes, return_counts=True)[1].tolist()
        self._epochs = Epochs(
            seed,
            lambda size: sum(num_batches(count, size) for count in counts),
            lambda size, name: plan_encoded(members, shapes, size, name),
        )

    def describe(self, step: int, batch_size: int, rows: range | None = None) -> PreparedBatch:
        """Read a batch, or some rows of it."""
        plan, position = self._epochs.at(step, batch_size)
        samples, captions, fields = [], [], []
        planned = plan.rows[position].tolist()
        for row in range(batch_size) if rows is None else rows:
            sample = planned[row]
            draw = random.Random(f"sample {self.seed} {step * batch_size + row}")
            names = self.prepared.field_sets[self.prepared.fields[sample]]
            field = self.prepared.mix.choose({name: name for name in sorted(names)}, draw)
            assert field is not None  # samples without were left out
            samples.append(self.prepared.tensors(sample))
            captions.append(self.prepared.captions(sample)[field])
            fields.append(field)

        def stacked(name: str) -> Tensor:
            return torch.stack([tensors[name] for tensors in samples])

        def of_fields(name: Callable[[str], str]) -> Tensor:
            pairs = zip(samples, fields, strict=True)
            return torch.stack([tensors[name(field)] for tensors, field in pairs])

        return PreparedBatch(
            z_0=stacked(Z_0),
            input_ids=of_fields(tokens_of).long(),
            captions=captions,
            time_ids=stacked(TIME_IDS).float(),
            z_lr=stacked(Z_LR) if self.low_resolution else None,
            z_lr_through=stacked(Z_LR_THROUGH) if self.low_resolution else None,
            embeddings=of_fields(embeddings_of) if self.embeddings else None,
            whole=self.prepared.manifest.settings.crop == 0,
        )

    def draw(self, described: PreparedBatch) -> PreparedBatch:
        """The batch on the device of the run."""
        tensors: dict[str, Any] = {
            name: value.to(self.device)
            for name, value in vars(described).items()
            if isinstance(value, Tensor)
        }
        return replace(described, **tensors)

    def batch(self, step: int, batch_size: int, rows: range | None = None) -> PreparedBatch:
        return self.draw(self.describe(step, batch_size, rows))

    def caption_pairs(self, step: int, batch_size: int) -> list[tuple[str, str]]:
        """Two captions of each sample of a batch, of two fields where there are two.

        Raises: RelayError if there is one field only.
        """
        plan, position = self._epochs.at(step, batch_size)
        samples = plan.rows[position].tolist()
        captions = (self.prepared.captions(sample) for sample in samples)
        return self.prepared.mix.pairs(captions, self.seed, step * batch_size)
