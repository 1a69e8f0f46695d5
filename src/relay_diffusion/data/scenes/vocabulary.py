"""The words of the world: subjects, tints, backgrounds, styles, and how people say them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files


@dataclass(frozen=True)
class Subject:
    """A drawing and its names; ``id`` is the drawing's name in the collection."""

    id: str
    name: str
    plural: str
    synonyms: tuple[str, ...] = ()

    @property
    def singulars(self) -> tuple[str, ...]:
        return (self.name, *self.synonyms)

    @property
    def takes_article(self) -> bool:
        """False for "scissors" and "popcorn", which are counted as "pairs of", "bags of" them."""
        return not self.plural.endswith(f" of {self.name}")


@dataclass(frozen=True)
class Vocabulary:
    """Everything that scenes and captions are made of.

    Attributes:
        subjects: by id.
        tints: names of colours.
        backgrounds: name to phrases that follow what is shown ("on a red background").
        styles: name to phrases that say how it is drawn; the first style is the plain one.
    """

    subjects: dict[str, Subject]
    tints: tuple[str, ...]
    backgrounds: dict[str, tuple[str, ...]]
    styles: dict[str, tuple[str, ...]]
    small_subjects: tuple[str, ...]
    small_backgrounds: tuple[str, ...]
    small_styles: tuple[str, ...]


@lru_cache(maxsize=1)
def load_vocabulary() -> Vocabulary:
    """The packaged vocabulary."""
    text = files("relay_diffusion.data.scenes").joinpath("vocabulary.json").read_text("utf-8")
    data = json.loads(text)
    subjects = {
        entry["id"]: Subject(
            entry["id"], entry["name"], entry["plural"], tuple(entry.get("synonyms", ()))
        )
        for entry in data["subjects"]
    }
    small = data["small_world"]
    return Vocabulary(
        subjects,
        tuple(data["tints"]),
        {name: tuple(phrases) for name, phrases in data["backgrounds"].items()},
        {name: tuple(phrases) for name, phrases in data["styles"].items()},
        tuple(small["subjects"]),
        tuple(small["backgrounds"]),
        tuple(small["styles"]),
    )
