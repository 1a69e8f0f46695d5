"""The ``data`` table of a recipe: where pictures and captions come from, how a batch sees them."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Literal

from relay_diffusion.data.buckets import view_buckets
from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError

OF_SOURCE = {
    "scenes": ("world", "atlas", "short_captions"),
    "pictures": ("path", "captions", "multiple", "max_aspect", "min_size", "held_out"),
    "prepared": ("path", "captions", "held_out", "embeddings"),
}
"""Keys that have an effect with one source and not with all."""


def at_least(low: float, **values: float) -> None:
    """Raise RelayError, naming it, if one of the values is below, or is nan."""
    for name, value in values.items():
        if not value >= low:
            raise RelayError(f"{name} is {value:.12g}, must be at least {low:g}")


def within(low: float, high: float, **values: float) -> None:
    """Raise RelayError, naming it, if one of the values is not."""
    for name, value in values.items():
        if not low <= value <= high:
            raise RelayError(f"{name} is {value:.12g}, must be {low:.12g} to {high:.12g}")


@dataclass(frozen=True)
class Data:
    """Where pictures and captions come from.

    Attributes:
        source: "scenes" is the generated world, "pictures" are files, "prepared" is what ``relay
            prepare`` made of files (docs/data.md).
        world: of scenes: which part of it.
        atlas: of scenes: file of the drawings.
        short_captions: of scenes: share that go by their short caption, the others by the long.
        path: of pictures: a folder, or files as in "shards/*.tar"; of prepared: its folder.
        captions: of both: fields and how often each is taken; may be empty if there is one.
        multiple: of pictures: of the sides of buckets; 0 is an eighth of the size, 16 to 64.
        max_aspect: of pictures: of buckets, longer by shorter side; 1 is squares only.
        min_size: of pictures: those with a shorter side are left out; 0 enlarges them.
        held_out: of both: share that is never trained on.
        embeddings: of prepared: take stored text embeddings where the text encoder is fixed.
        batch_size: pictures in one optimiser step.
        views: sizes and crops; each batch has one of them. Of pictures, the size is the side of the
            square whose area is kept. Of prepared, the one that was prepared.
        reuse: how often a prepared (rendered, encoded) picture is visited, with fresh noise; a
            ``chapter`` of so many batches is kept in memory, and shuffled.
        chapter: of ``reuse``: batches.
        workers: processes that sample scenes and captions, or read, ahead; 0 does it in line.
    """

    source: Literal["scenes", "pictures", "prepared"] = "scenes"
    world: Literal["full", "small"] = "full"
    atlas: str = ""
    short_captions: float = 0.5
    path: str = ""
    captions: dict[str, float] = field(default_factory=dict)
    multiple: int = 0
    max_aspect: float = 2.0
    min_size: int = 0
    held_out: float = 0.02
    embeddings: bool = True
    batch_size: int = 32
    views: tuple[View, ...] = (View(128),)
    reuse: int = 1
    chapter: int = 32
    workers: int = 0

    def __post_init__(self) -> None:
        at_least(1, batch_size=self.batch_size, reuse=self.reuse, chapter=self.chapter)
        at_least(0, workers=self.workers)
        if not self.views:
            raise RelayError("views is empty, give at least one, such as [{size = 128}]")
        if not any(view.weight for view in self.views):
            raise RelayError("views all have weight 0: give one of them another")
        within(0, 1, short_captions=self.short_captions)
        self._check_keys()
        if self.source != "scenes":
            self._check_files()
        if self.source == "pictures":
            self._check_pictures()
        if self.source == "prepared" and (self.reuse > 1 or len(self.views) > 1):
            raise RelayError(
                "prepared data have one view and cost nothing to visit again: "
                "give one view, and leave out reuse"
            )
        if self.reuse > 1 and len({view.side for view in self.views}) > 1:
            raise RelayError(
                "reuse above 1 shuffles pictures of all views together, which must then show the "
                "same number of pixels: give the larger ones a crop, as {size = 512, crop = 256}"
            )

    def _check_keys(self) -> None:
        """Keys of another source, which would have no effect."""
        blank = {f.name: {} if f.default is MISSING else f.default for f in fields(self)}
        for other, names in OF_SOURCE.items():
            for name in names:
                if name not in OF_SOURCE[self.source] and getattr(self, name) != blank[name]:
                    raise RelayError(
                        f"{name} is of source {other!r}, and source is {self.source!r}: "
                        f"leave it out, or set source = {other!r}"
                    )

    def _check_files(self) -> None:
        """Ranges of what files of both kinds have."""
        if not self.path:
            what = "a folder that relay prepare made"
            if self.source == "pictures":
                what = 'a folder of pictures or files, such as "shards/*.tar"'
            raise RelayError(f"path is empty, must be {what}")
        if not 0 < self.held_out < 1:
            raise RelayError(f"held_out is {self.held_out}, must be between 0 and 1")
        weights = self.captions.values()
        if weights and (min(weights) < 0 or not any(weights)):
            raise RelayError("captions has weights below 0, or none above: give shares that add up")

    def _check_pictures(self) -> None:
        at_least(0, multiple=self.multiple, min_size=self.min_size)
        if self.max_aspect < 1:
            raise RelayError(f"max_aspect is {self.max_aspect}, must be at least 1")
        for view in self.views:
            view_buckets(view, self.multiple, self.max_aspect)
        if self.reuse > 1 and self.max_aspect > 1 and not all(view.crop for view in self.views):
            raise RelayError(
                "reuse above 1 shuffles pictures of all shapes together: set max_aspect = 1, "
                "or give every view a crop"
            )
