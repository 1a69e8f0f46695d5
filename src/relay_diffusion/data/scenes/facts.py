"""What a prompt asks for, as data: between the words that somebody typed and a scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relay_diffusion.data.scenes.scene import INVERSE


@dataclass(frozen=True)
class Asked:
    """Things of one kind that are asked for.

    Attributes:
        subject: identifier in the vocabulary.
        tint, size, place: None where nothing is said. A place is a corner ("top left"), a side, or
            "middle".
    """

    subject: str
    count: int = 1
    tint: str | None = None
    size: Literal["small", "large"] | None = None
    place: str | None = None


@dataclass(frozen=True)
class Facts:
    """All that a prompt says of its scene; what it leaves open is None.

    Attributes:
        things: in the order they are first spoken of.
        relations: (i, relation, j), how ``things[i]`` stand to ``things[j]``.
        row: they are said to stand in a row.
        left_out: words and phrases that say something no scene can show, as they were typed.
        read_as: (word, name) where a misspelt or general word was taken for something known.
    """

    things: tuple[Asked, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    row: bool = False
    background: str | None = None
    style: str | None = None
    left_out: tuple[str, ...] = ()
    read_as: tuple[tuple[str, str], ...] = ()

    @property
    def num_things(self) -> int:
        return sum(thing.count for thing in self.things)

    @property
    def relation(self) -> str | None:
        """As ``Scene.relation``: how the first stands to the second, or "in a row" of all."""
        if self.num_things > 1 and self.row and (len(self.things) == 1 or self.num_things > 2):
            return "in a row"
        if self.num_things != 2 or len(self.things) != 2:
            return None
        for first, relation, second in self.relations:
            if (first, second) == (0, 1):
                return relation
            if (first, second) == (1, 0):
                return INVERSE[relation]
        return relation_of_places(self.things[0].place, self.things[1].place)


def relation_of_places(first: str | None, second: str | None) -> str | None:
    """How a thing at one place stands to one at another, or anywhere else."""
    a, b = set((first or "").split()), set((second or "").split())
    for near, far, relation in (("left", "right", "left of"), ("top", "bottom", "above")):
        towards = (near in a) - (far in a) - (near in b) + (far in b)
        if towards:
            return relation if towards > 0 else INVERSE[relation]
    return None
