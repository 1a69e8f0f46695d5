"""The world: which scenes there are, and which of them training never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from random import Random
from typing import Literal, get_args

from relay_diffusion.data.scenes.facts import Asked, Facts
from relay_diffusion.data.scenes.placing import (
    SIZES,
    at_place,
    beside,
    draw_size,
    inside,
    on_grid,
    size_on_grid,
)
from relay_diffusion.data.scenes.scene import Scene, Thing
from relay_diffusion.data.scenes.vocabulary import load_vocabulary
from relay_diffusion.errors import RelayError

Split = Literal["train", "held-out"]
Task = Literal[
    "one subject",
    "two subjects",
    "counting",
    "colour",
    "position",
    "colour attribution",
    "style",
    "background",
]
WorldName = Literal["full", "small"]
HELD_OUT_SHARE = 0.12
TINTED_SHARE = 0.25
SIDE_BY_SIDE = ("left of", "right of")


@lru_cache(maxsize=1 << 18)
def held_out(kind: str, a: str, b: str) -> bool:
    """Whether training never shows ``a`` with ``b``: about one combination in eight, for good.

    Kinds are "pair" (two subjects, in either order), "tint", "background" and "style" (a subject
    and its tint, what is behind it, how it is drawn).
    """
    if kind == "pair":
        a, b = sorted((a, b))
    digest = blake2b(f"{kind}|{a}|{b}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") < HELD_OUT_SHARE * 2**32


def is_held_out(scene: Scene) -> bool:
    """Whether a scene has at least one combination that training never shows."""
    kinds = sorted({thing.subject for thing in scene.things})
    return (
        any(held_out("background", kind, scene.background) for kind in kinds)
        or (scene.style != "flat" and any(held_out("style", kind, scene.style) for kind in kinds))
        or any(held_out("tint", thing.subject, thing.tint) for thing in scene.things if thing.tint)
        or any(held_out("pair", a, b) for i, a in enumerate(kinds) for b in kinds[i + 1 :])
    )


def poses(scene: Scene, task: Task) -> bool:
    """Whether a scene puts a task to a model.

    "two subjects", "position" (one of the four relations) and "colour attribution" (two tints) have
    two things of different subjects, "counting" several of one. The others have a single thing:
    "colour" a tinted one, "style" one that is not flat, "background" and "one subject" any.
    """
    things = scene.things
    kinds = {thing.subject for thing in things}
    tints = {thing.tint for thing in things}
    if task == "counting":
        return len(things) > 1 and len(kinds) == 1
    if task in ("two subjects", "position", "colour attribution"):
        return (
            len(things) == len(kinds) == 2
            and (task != "position" or scene.relation is not None)
            and (task != "colour attribution" or (len(tints) == 2 and None not in tints))
        )
    return (
        len(things) == 1
        and (task != "colour" or None not in tints)
        and (task != "style" or scene.style != "flat")
    )


@dataclass(frozen=True)
class World:
    """What may be drawn.

    Attributes:
        grid: things of samples stand on the lines of a grid with so many cells along the shorter
            side, one or two of them in one size for each word; 0: anywhere, in any size.
        mirrored: whether things may face the other way than in their drawing.
    """

    subjects: tuple[str, ...]
    max_things: int
    backgrounds: tuple[str, ...]
    styles: tuple[str, ...]
    tints: tuple[str, ...]
    aspects: tuple[float, ...] = (1.0,)
    grid: int = 0
    mirrored: bool = True

    @classmethod
    def full(cls) -> World:
        """Everything, up to four things in a picture: for a GPU."""
        v = load_vocabulary()
        return cls(tuple(v.subjects), 4, tuple(v.backgrounds), tuple(v.styles), tuple(v.tints))

    @classmethod
    def small(cls) -> World:
        """64 subjects, one or two in a picture, 8 backgrounds, 3 styles: for two CPU cores.

        At 128 pixels its grid is that of the latents, eight pixels a cell, so that a drawing is
        one block of latents for each of its sizes and not another for each of 64 shifts.
        """
        v = load_vocabulary()
        return cls(
            v.small_subjects,
            2,
            v.small_backgrounds,
            v.small_styles,
            tuple(v.tints),
            grid=16,
            mirrored=False,
        )

    @classmethod
    def by_name(cls, name: str) -> World:
        if name not in get_args(WorldName):
            raise RelayError(f"there is no world {name!r}; worlds are full and small")
        return cls.full() if name == "full" else cls.small()

    def sample(self, seed: int, split: Split = "train", task: Task | None = None) -> Scene:
        """The scene of a seed: equal arguments give equal scenes, on every machine.

        "train" scenes have no held-out combination, "held-out" scenes at least one (any of theirs,
        whatever the task). With a task, only scenes that pose it (:func:`poses`).
        Raises: RelayError if there is no such task.
        """
        if task is not None and task not in get_args(Task):
            raise RelayError(f"there is no task {task!r}; tasks are {', '.join(get_args(Task))}")
        draw = Random(seed)
        while True:
            scene = self._draw(draw)
            asked = task is None or poses(scene, task)
            if asked and is_held_out(scene) == (split == "held-out"):
                return scene

    def compose(self, facts: Facts, seed: int) -> Scene:
        """A scene that shows what is asked for; what is left open follows from the seed.

        Sizes left open are medium, tints none and the style the plain one. A background left open
        is one that training shows with the subjects, of no colour that they have.

        Args:
            facts: of this world (see ``fitting.fit``), with one thing at least.
        """
        draw = Random(seed)
        aspect = draw.choice(self.aspects)
        asked = [thing for thing in facts.things for _ in range(thing.count)]
        subjects = [thing.subject for thing in asked]
        one_kind = len(facts.things) == 1
        relation = facts.relation
        if len(asked) == 1:
            things = [self._one(draw, asked[0], aspect)]
        elif len(asked) == 2:
            # Two of a kind stand in a row or, unsaid, one over the other; others side by side.
            relation = relation or draw.choice(("in a row", None) if one_kind else SIDE_BY_SIDE)
            things = self._pair(draw, asked, relation or "above", aspect)
        elif relation is None and one_kind and draw.random() < 0.5:
            things = self._scattered(draw, aspect, subjects[0], len(asked))
        else:
            things, relation = self._row(draw, aspect, subjects), "in a row"
        tints = [thing.tint for thing in asked]
        seen = [
            name
            for name in self.backgrounds
            if name not in tints and not any(held_out("background", s, name) for s in subjects)
        ]
        return Scene(
            tuple(replace(thing, tint=tint) for thing, tint in zip(things, tints, strict=True)),
            relation,
            facts.background or draw.choice(seen or self.backgrounds),
            facts.style or self.styles[0],
            draw.getrandbits(32),
            aspect,
        )

    def _one(self, draw: Random, asked: Asked, aspect: float) -> Thing:
        size = draw.uniform(*SIZES[1][asked.size or ""])
        x, y = (
            at_place(draw, asked.place, size, aspect) if asked.place else inside(draw, size, aspect)
        )
        return Thing(asked.subject, None, x, y, size, draw.random() < 0.5)

    def _pair(
        self, draw: Random, asked: Sequence[Asked], relation: str, aspect: float
    ) -> list[Thing]:
        """Two things as the relation says, in the order they are asked for."""
        swap = relation in ("right of", "below")
        sizes = [draw.uniform(*SIZES[2][thing.size or ""]) for thing in asked]
        along = "left of" if relation == "in a row" else relation
        centres = beside(draw, along, sizes[::-1] if swap else sizes, aspect)
        return [
            Thing(thing.subject, None, x, y, size, draw.random() < 0.5)
            for thing, size, (x, y) in zip(
                asked, sizes, centres[::-1] if swap else centres, strict=True
            )
        ]

    def _draw(self, draw: Random) -> Scene:
        aspect = draw.choice(self.aspects)
        kind = draw.random()
        if kind < 0.45:
            things, relation = [self._alone(draw, aspect)], None
        elif kind < 0.85:
            things, relation = self._two(draw, aspect, draw.sample(self.subjects, 2))
        elif kind < 0.95 or self.max_things < 3:
            num = draw.randint(2, self.max_things)
            subject = draw.choice(self.subjects)
            if num == 2:
                things, relation = self._two(draw, aspect, [subject, subject])
                relation = "in a row" if relation in ("left of", "right of") else None
            elif draw.random() < 0.5:
                things, relation = self._row(draw, aspect, [subject] * num), "in a row"
            else:
                things, relation = self._scattered(draw, aspect, subject, num), None
            tint = self._tint(draw)
            things = [Thing(t.subject, tint, t.x, t.y, t.size, t.flip) for t in things]
        else:
            num = draw.randint(3, self.max_things)
            things, relation = self._row(draw, aspect, draw.sample(self.subjects, num)), "in a row"
        if self.grid:
            things = [on_grid(thing, len(things), self.grid, aspect) for thing in things]
        if not self.mirrored:
            things = [replace(thing, flip=False) for thing in things]
        return Scene(
            tuple(things),
            relation,
            draw.choice(self.backgrounds),
            self.styles[0] if draw.random() < 0.3 else draw.choice(self.styles),
            draw.getrandbits(32),
            aspect,
        )

    def _tint(self, draw: Random) -> str | None:
        return draw.choice(self.tints) if draw.random() < TINTED_SHARE else None

    def _size(self, draw: Random, num: int) -> float:
        size = draw_size(draw, num)
        return size_on_grid(size, num, self.grid) if self.grid else size

    def _alone(self, draw: Random, aspect: float) -> Thing:
        size = self._size(draw, 1)
        x, y = inside(draw, size, aspect)
        return Thing(draw.choice(self.subjects), self._tint(draw), x, y, size, draw.random() < 0.5)

    def _two(
        self, draw: Random, aspect: float, subjects: Sequence[str]
    ) -> tuple[list[Thing], str | None]:
        """Two things side by side or one over the other, boxes apart, and how the first stands."""
        relation = draw.choice(("left of", "right of", "above", "below"))
        sizes = [self._size(draw, 2), self._size(draw, 2)]
        centres = beside(draw, relation, sizes, aspect)
        things = [
            Thing(subject, self._tint(draw), x, y, size, draw.random() < 0.5)
            for subject, size, (x, y) in zip(subjects, sizes, centres, strict=True)
        ]
        if relation in ("right of", "below"):
            things.reverse()
        return things, relation if draw.random() < 0.85 else None

    def _row(self, draw: Random, aspect: float, subjects: Sequence[str]) -> list[Thing]:
        """Three or four things from left to right."""
        width, height = (aspect, 1.0) if aspect > 1 else (1.0, 1 / aspect)
        num = len(subjects)
        cell = width / num
        line = height / 2 + draw.uniform(-0.15, 0.15)
        size = min(draw.uniform(0.24, 0.32), cell * 0.98)
        return [
            Thing(
                subject,
                self._tint(draw),
                (cell * (index + 0.5) + draw.uniform(-1, 1) * (cell - size) / 2) / width,
                (line + draw.uniform(-0.03, 0.03)) / height,
                size,
                draw.random() < 0.5,
            )
            for index, subject in enumerate(subjects)
        ]

    def _scattered(self, draw: Random, aspect: float, subject: str, num: int) -> list[Thing]:
        """Three or four of a subject, each somewhere in a quarter of its own: never in a row."""
        width, height = (aspect, 1.0) if aspect > 1 else (1.0, 1 / aspect)
        things = []
        for quarter in draw.sample(range(4), num):
            size = draw.uniform(0.24, 0.32)
            x = width * (quarter % 2 + 0.5) / 2 + draw.uniform(-1, 1) * (width / 2 - size) / 2
            y = height * (quarter // 2 + 0.5) / 2 + draw.uniform(-1, 1) * (height / 2 - size) / 2
            things.append(Thing(subject, None, x / width, y / height, size, draw.random() < 0.5))
        return things


def size_word(scene: Scene, thing: Thing) -> str:
    """ "small", "large", or "" for anything between and wherever sizes are not spoken of."""
    ranges = SIZES.get(len(scene.things), {})
    for word, (low, high) in ranges.items():
        if low <= thing.size <= high:
            return word
    return ""
