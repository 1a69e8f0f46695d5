"""From the order of words to positions: which thing a "below" or an "on the left" speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

ElementKind = Literal[
    "mention",  # number of the thing, None if it is none that scenes have
    "relation",
    "relation to it",
    "place",
    "left out",
    "it",
    "on",
    "is",
    "and",
    "with",
    "stop",
]
_AS_PLACE = {"left of": "left", "right of": "right", "above": "top", "below": "bottom"}
_OPENS = ("and", "with", "stop")  # a phrase about what follows can begin after these


@dataclass(frozen=True)
class Element:
    """What is left of a prompt when only mentions of things and words of position are kept."""

    kind: ElementKind
    value: str | int | None = None


@dataclass
class Standing:
    """What positions were said.

    Attributes:
        relations: (i, relation, j) by the numbers of things.
        places: of a thing, the first that was said.
        row: things of one kind are said to be left of each other.
        left_out: relations said between two things that scenes do not have.
    """

    relations: list[tuple[int, str, int]] = field(default_factory=list)
    places: dict[int, str] = field(default_factory=dict)
    row: bool = False
    left_out: list[str] = field(default_factory=list)


def read_standing(elements: Sequence[Element]) -> Standing:
    """Resolve every word of position to the things it is said of."""
    return _Reading(elements).standing


class _Reading:
    def __init__(self, elements: Sequence[Element]) -> None:
        self.elements = elements
        self.standing = Standing()
        for at, element in enumerate(elements):
            if element.kind == "relation":
                self._relation(at, str(element.value))
            elif element.kind == "on" and self._kind(at + 1) in ("mention", "it"):
                self._relation(at, "above")
            elif element.kind == "relation to it":
                self._to_it(at, at, str(element.value))
            elif element.kind == "place":
                self._place(at, str(element.value))
            elif element.kind == "left out":
                between = (self._kind(at - 1), self._kind(at + 1))
                if between == ("mention", "mention"):
                    self.standing.left_out.append(str(element.value))

    def _relation(self, at: int, relation: str) -> None:
        following = self._kind(at + 1)
        if following == "it":
            self._to_it(at, at + 1, relation)
        elif following == "mention":
            target = at + 1
            before = self._mention_before(at)
            thing = self._value(target)
            if before is None or (thing is not None and self._value(before) == thing):
                # "under the umbrella is a frog", "to the left of the castle stands a horse"
                subject = self._mention_after(target)
            elif self._kind(at - 1) in _OPENS and self._kind(target + 1) in ("is", "mention"):
                subject = self._mention_after(target)
            else:
                subject = before
            if subject is None:
                subject = self._mention_before(at, in_sentence=False)
            self._say(subject, relation, target)
        else:  # "the fox is above, the owl below"
            self._place(at, _AS_PLACE[relation])

    def _to_it(self, at: int, end: int, relation: str) -> None:
        """ "X with Y below it" speaks of Y, "X, and below it Y" too."""
        before = self._distinct_before(at)
        after = self._mention_after(end)
        opens = self._kind(at - 1) in (*_OPENS, None)
        if before and after is not None and (opens or len(before) == 1):
            self._say(after, relation, before[0])
        elif len(before) > 1:
            self._say(before[0], relation, before[1])

    def _place(self, at: int, place: str) -> None:
        target = self._mention_before(at)
        if self._kind(at - 1) in (*_OPENS, None) or target is None:
            after = self._mention_after(at)
            # In "a fox, on the left, and an owl on the right" the owl has a place of its own.
            if after is not None and self._kind(after + 1) != "place":
                target = after
        if target is not None:
            thing = self._value(target)
            if thing is not None:
                before = self.standing.places.setdefault(thing, place)
                self.standing.row |= {before, place} == {"left", "right"}

    def _say(self, subject: int | None, relation: str, target: int) -> None:
        first = None if subject is None else self._value(subject)
        second = self._value(target)
        if first is None or second is None:
            return
        if first != second:
            self.standing.relations.append((first, relation, second))
        elif relation in ("left of", "right of"):  # "a fox to the left of another fox"
            self.standing.row = True

    def _kind(self, at: int) -> ElementKind | None:
        return self.elements[at].kind if 0 <= at < len(self.elements) else None

    def _value(self, at: int) -> int | None:
        value = self.elements[at].value
        return value if isinstance(value, int) else None

    def _mention_before(self, at: int, in_sentence: bool = True) -> int | None:
        for index in range(at - 1, -1, -1):
            if self._kind(index) == "mention":
                return index
            if self._kind(index) == "stop" and in_sentence:
                return None
        return None

    def _mention_after(self, at: int) -> int | None:
        """The next in the sentence, past one mark that sets the phrase apart."""
        for index in range(at + 1, len(self.elements)):
            if self._kind(index) == "mention":
                return index
            if self._kind(index) == "stop":
                return None
        return None

    def _distinct_before(self, at: int) -> list[int]:
        """Mentions before, the last first, each thing once."""
        found: dict[int | None, int] = {}
        for index in range(at - 1, -1, -1):
            if self._kind(index) == "mention":
                found.setdefault(self._value(index), index)
        return list(found.values())
