"""From the network's maps to a list of what is in the picture, and what that says of a prompt."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F

from relay_diffusion.data.scenes.scene import Scene
from relay_diffusion.evaluation.judge.network import CELLS, NO_TINT, Answers, Reading
from relay_diffusion.evaluation.judge.partial import PartialScene

THRESHOLD = 0.3
"""Least belief in a peak; CenterNet's choice."""

CLEARLY = 0.04
"""How much further left (up, ...) a thing must lie to count, as a share of the picture."""


@dataclass(frozen=True)
class Seen:
    """A thing that the judge found: as ``Thing``, with the judge's belief in it."""

    subject: str
    tint: str | None
    x: float
    y: float
    size: float
    belief: float


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in one picture, surest thing first."""

    things: tuple[Seen, ...]
    background: str
    style: str


def verdicts(reading: Reading, answers: Answers) -> list[Verdict]:
    """Peaks of the heat maps as things: a cell that is the highest of its 3x3 neighbours over all
    subjects and above :data:`THRESHOLD` is a thing of its likeliest subject."""
    belief = reading.heat.float().sigmoid()
    best, subject = belief.max(1)
    peak = (best == F.max_pool2d(best[:, None], 3, 1, 1)[:, 0]) & (best >= THRESHOLD)
    tint = reading.tint.argmax(1)
    background, style = reading.background.argmax(1), reading.style.argmax(1)
    result = []
    for index in range(len(best)):
        rows, columns = torch.nonzero(peak[index], as_tuple=True)
        things = []
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            dx, dy, log_size = reading.box[index, :, row, column].float().tolist()
            name = answers.tints[int(tint[index, row, column])]
            things.append(
                Seen(
                    answers.subjects[int(subject[index, row, column])],
                    None if name == NO_TINT else name,
                    (column + dx) / CELLS,
                    (row + dy) / CELLS,
                    2.0**log_size,
                    float(best[index, row, column]),
                )
            )
        things.sort(key=lambda thing: -thing.belief)
        result.append(
            Verdict(
                tuple(things),
                answers.backgrounds[int(background[index])],
                answers.styles[int(style[index])],
            )
        )
    return result


def agreement(asked: Scene | PartialScene, verdict: Verdict) -> dict[str, bool]:
    """Which facts the picture shows, for the questions that the scene, or the prompt, asks.

    - ``subject``: (one thing) it is there. ``both subjects``: (two or more kinds) all are there.
    - ``count``: (several alike) exactly so many of it are there.
    - ``colour``: (something is tinted) every tinted thing is there in its tint, each a thing of its
      own: two red foxes are two foxes that are red.
    - ``position``: (left of, right of, above, below, in a row) as said; asked only where the things
      are there at all, so that it measures placement and not presence.
    - ``background``, ``style``: unless the prompt does not say.
    """
    wanted = Counter(thing.subject for thing in asked.things)
    found = {kind: [t for t in verdict.things if t.subject == kind] for kind in wanted}
    there = all(found.values())
    facts = {}
    if asked.background is not None:
        facts["background"] = verdict.background == asked.background
    if asked.style is not None:
        facts["style"] = verdict.style == asked.style
    if len(asked.things) == 1:
        facts["subject"] = there
    if len(wanted) > 1:
        facts["both subjects"] = there
    if any(num > 1 for num in wanted.values()):
        facts["count"] = all(len(found[kind]) == num for kind, num in wanted.items() if num > 1)
    tinted = Counter((thing.subject, thing.tint) for thing in asked.things if thing.tint)
    if tinted:
        facts["colour"] = all(
            sum(seen.tint == tint for seen in found[kind]) >= num
            for (kind, tint), num in tinted.items()
        )
    if asked.relation and len(wanted) > 1 and there:
        facts["position"] = _stands(asked.relation, [found[kind][0] for kind in wanted])
    return facts


def _stands(relation: str, things: list[Seen]) -> bool:
    first, second = things[0], things[1]
    if relation == "left of":
        return second.x - first.x > CLEARLY
    if relation == "right of":
        return first.x - second.x > CLEARLY
    if relation == "above":
        return second.y - first.y > CLEARLY
    if relation == "below":
        return first.y - second.y > CLEARLY
    xs = [thing.x for thing in things]
    ys = [thing.y for thing in things]
    in_order = all(right - left > CLEARLY for left, right in pairwise(xs))
    return in_order and max(ys) - min(ys) < 0.25
