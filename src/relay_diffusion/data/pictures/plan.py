"""The batches of an epoch: which records in which shape, planned from sizes alone.

An epoch visits every record once. Most batches hold records of one bucket; what is left over,
fewer than a batch of each bucket, is put in order of aspect and cut into batches too, each in the
shape of its middle record, so that a few pictures an epoch, others each time, lose more of an edge
than they would. The alternatives are worse: dropping leftovers never shows a bucket with fewer
pictures than a batch holds; carrying them into the next epoch makes it depend on all before, which
a resumed run would have to plan again. The last batch is filled up with records of its shape, which
that epoch visits twice. So all epochs have the same number of batches, and a step tells its epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[Any]]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Plan:
    """An epoch.

    Attributes:
        rows: (num batches, batch size) records.
        shapes: (num batches,) the shape of each batch.
        shape_of: (N,) the shape that each of ``members`` has this epoch.
    """

    rows: Numbers
    shapes: Numbers
    shape_of: Numbers


def num_batches(num_records: int, batch_size: int) -> int:
    return -(-num_records // batch_size)


def plan_epoch(
    members: Numbers,
    shapes_by_view: Sequence[Numbers],
    weights: Sequence[float],
    batch_size: int,
    seed: str,
) -> Plan:
    """Batches of ``members``, a function of the arguments.

    Args:
        members: (N,) records.
        shapes_by_view: for each view, (N,) the shape that a member has in it; shapes are numbered
            through all views, in order of aspect within each.
        weights: of the views; each record is drawn one each epoch.
        seed: names the stream and the epoch.
    """
    chances = np.cumsum(weights) / np.sum(weights)
    views = np.searchsorted(chances[:-1], uniform(f"view {seed}", len(members)), side="right")
    shape_of = np.stack(shapes_by_view)[views, np.arange(len(members))]

    order = np.argsort(uniform(f"order {seed}", len(members)), kind="stable")
    order = order[np.argsort(shape_of[order], kind="stable")]
    _, starts, counts = np.unique(shape_of[order], return_index=True, return_counts=True)
    within = np.arange(len(order)) - np.repeat(starts, counts)
    whole = within < np.repeat(counts // batch_size * batch_size, counts)

    left = order[~whole]
    missing = -len(left) % batch_size
    if missing:
        last = left[len(left) + missing - batch_size :]
        shape = shape_of[last[len(last) // 2]]
        others = order[~np.isin(order, last)]
        others = others[np.argsort(shape_of[others] != shape, kind="stable")]
        left = np.concatenate([left, np.resize(np.concatenate([others, last]), missing)])
    full, rest = order[whole].reshape(-1, batch_size), left.reshape(-1, batch_size)
    middle = np.full(len(rest), batch_size // 2)
    if missing:
        middle[-1] = (batch_size - missing) // 2
    shapes = np.concatenate([shape_of[full[:, 0]], shape_of[rest[np.arange(len(rest)), middle]]])
    rows = np.concatenate([full, rest])
    shuffled = np.argsort(uniform(f"batches {seed}", len(rows)), kind="stable")
    return Plan(members[rows[shuffled]], shapes[shuffled], shape_of)


def plan_encoded(members: Numbers, shape_of: Numbers, batch_size: int, seed: str) -> Plan:
    """Batches of ``members`` that cannot change their shape any more, a function of the arguments.

    The last batch of each shape is filled up with others of it, which that epoch visits twice; or
    oftener, where there are fewer than a batch holds.

    Args: as for :func:`plan_epoch`; ``shape_of`` (N,).
    """
    order = np.argsort(uniform(f"order {seed}", len(members)), kind="stable")
    rows, shapes = [], []
    for shape in np.unique(shape_of).tolist():
        its = order[shape_of[order] == shape]
        num = num_batches(len(its), batch_size)
        rows.append(np.resize(its, (num, batch_size)))
        shapes += [shape] * num
    stacked = np.concatenate(rows)
    shuffled = np.argsort(uniform(f"batches {seed}", len(stacked)), kind="stable")
    return Plan(members[stacked[shuffled]], np.array(shapes)[shuffled], shape_of)


class Epochs:
    """The plan and the position within it of every step; the plan of one epoch is kept.

    Args:
        seed: of the stream.
        length: batches of an epoch, by the size of a batch.
        plan: (batch size, name of stream and epoch) -> plan.
    """

    def __init__(
        self, seed: int, length: Callable[[int], int], plan: Callable[[int, str], Plan]
    ) -> None:
        self.seed, self.length, self.plan = seed, length, plan
        self._kept: tuple[tuple[int, int], Plan] | None = None

    def at(self, step: int, batch_size: int) -> tuple[Plan, int]:
        epoch, position = divmod(step, self.length(batch_size))
        if self._kept is None or self._kept[0] != (epoch, batch_size):
            self._kept = ((epoch, batch_size), self.plan(batch_size, f"{self.seed} {epoch}"))
        return self._kept[1], position


def uniform(seed: str, num: int) -> Numbers:
    """Numbers in [0, 1), (num,) float64: the SplitMix64 finaliser over a counter, as in
    ``training/draws.py``; numpy's own generators may change with its version, plans must not."""
    start = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest(), "big")
    x = np.arange(1, num + 1, dtype=np.uint64) * GOLDEN + np.uint64(start)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
