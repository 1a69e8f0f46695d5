"""What a prompt says, where it says less than a scene: only that is asked of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay_diffusion.data.scenes.scene import RELATIONS

_KEYS = {"subjects", "counts", "tints", "sizes", "relation", "background", "style"}


@dataclass(frozen=True)
class NamedThing:
    """One thing that the prompt names; no tint: any will do."""

    subject: str
    tint: str | None = None


@dataclass(frozen=True)
class PartialScene:
    """A scene as far as a prompt tells it; None where it does not.

    Attributes:
        things: as often as they are asked for, in the order that ``relation`` speaks of.
        relation: one of ``RELATIONS``.
    """

    things: tuple[NamedThing, ...]
    relation: str | None = None
    background: str | None = None
    style: str | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PartialScene:
        """From the form that prompt files have.

        ``{"subjects": ["fox", "bus"], "counts": [1, 2], "tints": ["red", null], "relation": ...,
        "background": ..., "style": ...}``; all but ``subjects`` may be missing or null. ``sizes``
        is let pass and not asked. Raises: ValueError saying what is wrong.
        """
        unknown = sorted(set(values) - _KEYS)
        if unknown:
            raise ValueError(f"facts have no {unknown[0]!r}; they are {', '.join(sorted(_KEYS))}")
        subjects = values.get("subjects")
        if not isinstance(subjects, list) or not all(isinstance(s, str) for s in subjects):
            raise ValueError("facts need a list of subjects")
        counts = _as_many(values, "counts", len(subjects))
        tints = _as_many(values, "tints", len(subjects))
        for count in counts:
            if count is not None and (not isinstance(count, int) or count < 1):
                raise ValueError(f"a count is {count!r}; it is a number of 1 or more")
        relation = values.get("relation")
        if relation is not None and relation not in RELATIONS:
            raise ValueError(f"relation {relation!r}; relations are {', '.join(RELATIONS)}")
        things = [
            NamedThing(subject, tint)
            for subject, count, tint in zip(subjects, counts, tints, strict=True)
            for _ in range(count or 1)
        ]
        return cls(tuple(things), relation, values.get("background"), values.get("style"))


def _as_many(values: Mapping[str, Any], name: str, num: int) -> list[Any]:
    given = values.get(name)
    if given is None:
        return [None] * num
    if not isinstance(given, list) or len(given) != num:
        raise ValueError(f"{name} must be a list as long as subjects, {num}")
    return given
