"""What the loop needs to know of an objective: functions, in one frozen record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from relay_diffusion.training.draws import Draws
from relay_diffusion.training.feed import Batch


@dataclass(frozen=True)
class Objective:
    """An objective, ready to be trained.

    Attributes:
        trained: the modules that learn, by the name of their folder in a cascade, and what helps
            them to and is not exported.
        feed: step -> this process's rows of the batch, a function of the step alone.
        loss: (batch, draws) -> (B,), one loss per sample. ``draws`` are the random numbers of
            exactly these samples, so a batch may be split at will.
        export: writes what a cascade has of them, half precision, into a folder; every process
            calls it, and the main one writes.
        export_once: modules that belong to what is exported and do not change in a run, by the
            name of their folder: later exports of the run link to the files of the first.
        frozen: modules that the loss computes with and that stay as they are, by a name; too large
            to be whole in every process, so they are shared out as what learns is.
        validate: -> named figures, on held-out data with fixed noise.
        preview: -> pictures (N, 3, H, W) in [-1, 1] and how many go in a row.
        own_losses: whether each of ``trained`` learns from a term of the loss that is its own, so
            that their gradients are clipped apart.
        levels: draws -> (B,), the training index t of each of these samples, to be named when its
            loss is not finite.
    The loop calls ``export``, ``validate`` and ``preview`` with the averaged weights in place,
    without gradients.
    """

    trained: Mapping[str, nn.Module]
    feed: Callable[[int], Batch]
    loss: Callable[[Batch, Draws], Tensor]
    export: Callable[[Path], None]
    validate: Callable[[], dict[str, float]]
    preview: Callable[[], tuple[Tensor, int]] | None = None
    levels: Callable[[Draws], Tensor] | None = None
    export_once: Mapping[str, nn.Module] = field(default_factory=dict)
    frozen: Mapping[str, nn.Module] = field(default_factory=dict)
    own_losses: bool = False
