"""Held-out pictures, and the loss on them: one number, however the work is cut and shared out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relay_diffusion.data.view import View
from relay_diffusion.training import distributed
from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch, Pictures, Source, as_in_training
from relay_diffusion.training.recipe import Recipe


@dataclass(frozen=True)
class Chunk:
    """Held-out pictures that go through the networks at once.

    Attributes:
        batch: which of the batches they are of.
        rows: within it.
        size: pictures of the batch that are taken.
        first: place of its first picture among all.
    """

    batch: int
    rows: range
    size: int
    first: int

    def draws(self, purpose: str, device: torch.device) -> Draws:
        """The random numbers of these pictures, always the same."""
        rows = torch.arange(self.rows.start, self.rows.stop, device=device)
        return Draws(0, purpose, self.batch, rows, self.size)

    @property
    def places(self) -> slice:
        """Among all held-out pictures."""
        return slice(self.first + self.rows.start, self.first + self.rows.stop)


def chunks(num_pictures: int, batch_size: int, at_once: int) -> list[Chunk]:
    """The first ``num_pictures``, in batches as they are read, cut to ``at_once`` at most."""
    cut = []
    for batch, first in enumerate(range(0, num_pictures, batch_size)):
        size = min(batch_size, num_pictures - first)
        for start in range(0, size, at_once):
            cut.append(Chunk(batch, range(start, min(start + at_once, size)), size, first))
    return cut


def samples_at_once(recipe: Recipe) -> int:
    """How many of a step's samples a process passes through the networks together."""
    share = len(distributed.share(recipe.data.batch_size))
    return max(1, -(-share // recipe.optimizer.accumulate))


def held_out(
    source: Source,
    prepare: Callable[[Pictures, Draws], Batch],
    views: Sequence[View],
    cut: Sequence[Chunk],
    batch_size: int,
    device: torch.device,
) -> list[Batch]:
    """Held-out pictures, prepared, the same in every run. ``batch_size`` as of :func:`chunks`."""
    stream = source("held-out", views)
    with torch.no_grad(), as_in_training(device):
        return [
            prepare(
                stream.batch(chunk.batch, batch_size, chunk.rows), chunk.draws("held-out", device)
            )
            for chunk in cut
        ]


class HeldOutLoss:
    """Mean loss on held-out pictures with fixed noise, in all and by group. Pictures are prepared
    once; the processes share them out, as many at a time as in training.

    Args:
        error: (batch, draws) -> loss of each sample and number of its group, each (B,).
        num_groups: groups are 0 .. num_groups-1.
        name: of a group's figure, followed by its number.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        prepare: Callable[[Pictures, Draws], Batch],
        device: torch.device,
        error: Callable[[Batch, Draws], tuple[Tensor, Tensor]],
        num_groups: int,
        name: str,
    ) -> None:
        self.recipe, self.source, self.prepare, self.device = recipe, source, prepare, device
        self.error, self.num_groups, self.name = error, num_groups, name
        self._prepared: list[tuple[Chunk, Batch]] | None = None

    def __call__(self) -> dict[str, float]:
        num_pictures = self.recipe.validation.num_pictures
        # How often each was visited, its loss, its group.
        sums = torch.zeros(3, num_pictures, dtype=torch.float64, device=self.device)
        for chunk, batch in self._shares():
            loss, group = self.error(batch, chunk.draws("validation", self.device))
            sums[:, chunk.places] += torch.stack([torch.ones_like(loss), loss, group]).double()
        visits, losses, groups = distributed.summed(sums)
        loss, group = losses / visits, (groups / visits).long()
        figures = {"loss": float(loss.mean())}
        for i in range(self.num_groups):
            if bool((group == i).any()):
                figures[f"{self.name}_{i}"] = float(loss[group == i].mean())
        return figures

    def _shares(self) -> list[tuple[Chunk, Batch]]:
        """This process's. All have the same number, since sharded networks are gathered by all at
        once; so the last chunk may be visited by several."""
        if self._prepared is None:
            recipe = self.recipe
            size = recipe.data.batch_size
            cut = chunks(recipe.validation.num_pictures, size, samples_at_once(recipe))
            cut += cut[-1:] * (-len(cut) % distributed.world_size())
            mine = cut[distributed.rank() :: distributed.world_size()]
            views = recipe.data.views
            batches = held_out(self.source, self.prepare, views, mine, size, self.device)
            self._prepared = list(zip(mine, batches, strict=True))
        return self._prepared
