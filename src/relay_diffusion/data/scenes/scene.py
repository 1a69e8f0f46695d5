"""What a generated picture shows, as data: the truth that captions, renderer and judge share."""

from __future__ import annotations

from dataclasses import dataclass

RELATIONS = ("left of", "right of", "above", "below", "in a row")
"""How ``things[0]`` stands to ``things[1]``; "in a row" speaks of all things, left to right."""
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Thing:
    """One drawing in the scene.

    Attributes:
        subject: identifier in the vocabulary.
        tint: name of the colour it is dyed in, or None for the drawing's own colours.
        x, y: centre as a fraction of the picture's width and height, (0, 0) the top left corner.
        size: side of the drawing's square box as a fraction of the picture's shorter side.
        flip: mirrored left to right.
    """

    subject: str
    tint: str | None
    x: float
    y: float
    size: float
    flip: bool = False


@dataclass(frozen=True)
class Scene:
    """A whole picture. Independent of resolution: the same scene renders at any size.

    Attributes:
        things: one to four drawings, none hiding another. Equal subjects and tints are a count.
        relation: one of :data:`RELATIONS`, or None where nothing is said about positions.
        background: name of a background in the vocabulary.
        style: name of a drawing style in the vocabulary.
        seed: fixes whatever else the picture varies in (shades, texture phases).
        aspect: width / height.
    """

    things: tuple[Thing, ...]
    relation: str | None
    background: str
    style: str
    seed: int
    aspect: float = 1.0
