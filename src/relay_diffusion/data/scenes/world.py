"""The world: which scenes there are, and which of them training never sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from random import Random
from typing import Literal, get_args

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
HELD_OUT_SHARE = 0.12
TINTED_SHARE = 0.25

SIZES = {
    1: {"small": (0.30, 0.38), "": (0.45, 0.56), "large": (0.64, 0.78)},
    2: {"small": (0.26, 0.32), "": (0.34, 0.40), "large": (0.42, 0.48)},
}


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
    """What may be drawn."""

    subjects: tuple[str, ...]
    max_things: int
    backgrounds: tuple[str, ...]
    styles: tuple[str, ...]
    tints: tuple[str, ...]
    aspects: tuple[float, ...] = (1.0,)

    @classmethod
    def full(cls) -> World:
        """Everything, up to four things in a picture: for a GPU."""
        v = load_vocabulary()
        return cls(tuple(v.subjects), 4, tuple(v.backgrounds), tuple(v.styles), tuple(v.tints))

    @classmethod
    def small(cls) -> World:
        """64 subjects, one or two in a picture, 8 backgrounds, 3 styles: for two CPU cores."""
        v = load_vocabulary()
        return cls(v.small_subjects, 2, v.small_backgrounds, v.small_styles, tuple(v.tints))

    @classmethod
    def by_name(cls, name: str) -> World:
        if name not in ("full", "small"):
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

    def _alone(self, draw: Random, aspect: float) -> Thing:
        size = _size(draw, 1)
        x, y = _inside(draw, size, aspect)
        return Thing(draw.choice(self.subjects), self._tint(draw), x, y, size, draw.random() < 0.5)

    def _two(
        self, draw: Random, aspect: float, subjects: Sequence[str]
    ) -> tuple[list[Thing], str | None]:
        """Two things side by side or one over the other, boxes apart, and how the first stands."""
        relation = draw.choice(("left of", "right of", "above", "below"))
        along_x = relation in ("left of", "right of")
        width, height = (aspect, 1.0) if aspect > 1 else (1.0, 1 / aspect)
        room = width if along_x else height
        sizes = [_size(draw, 2), _size(draw, 2)]
        spare = room - sum(sizes)
        gaps = sorted(draw.uniform(0, spare) for _ in range(2))
        gaps[1] = max(gaps[1], min(spare, gaps[0] + 0.02))
        along = [gaps[0] + sizes[0] / 2, gaps[1] + sizes[0] + sizes[1] / 2]
        middle = (height if along_x else width) / 2
        # Centres stay within 0.12 of one line, so that nobody could say the other relation.
        across = [middle + draw.uniform(-0.12, 0.12) for _ in range(2)]
        things = []
        for subject, size, a, b in zip(subjects, sizes, along, across, strict=True):
            x, y = (a, b) if along_x else (b, a)
            things.append(
                Thing(subject, self._tint(draw), x / width, y / height, size, draw.random() < 0.5)
            )
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


def _size(draw: Random, num: int) -> float:
    word = draw.choices(("small", "", "large"), (1, 2, 1))[0]
    return draw.uniform(*SIZES[num][word])


def _inside(draw: Random, size: float, aspect: float) -> tuple[float, float]:
    """A centre such that at least nine tenths of the box are in the picture."""
    width, height = (aspect, 1.0) if aspect > 1 else (1.0, 1 / aspect)
    x = _spread(draw, width, size)
    y = _spread(draw, height, size)
    return x / width, y / height


def _spread(draw: Random, room: float, size: float) -> float:
    """Near the middle more often than at the edge."""
    spare = max(0.0, (room - size * 0.9) / 2)
    u = draw.uniform(-1, 1)
    return room / 2 + math.copysign(abs(u) ** 1.5, u) * spare
