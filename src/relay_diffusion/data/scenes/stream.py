"""An endless stream of fresh scenes: pictures, captions and size conditioning by step number.

Every batch is a pure function of (seed, step), so a run resumes by knowing its step. Describing a
batch (plain Python) and drawing it (tensors, on the atlas's device) are two calls, since the first
can run ahead in worker processes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from relay_diffusion.data.batch import PictureBatch
from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.data.scenes.captions import long_caption, short_caption
from relay_diffusion.data.scenes.render import Crop, render
from relay_diffusion.data.scenes.scene import Scene
from relay_diffusion.data.scenes.world import Split, World
from relay_diffusion.data.view import CROP_GRID, View


@dataclass(frozen=True)
class SceneDescription:
    """A batch before it is drawn."""

    scenes: Sequence[Scene]
    captions: list[str]
    view: View
    top: list[int]
    left: list[int]


@dataclass(frozen=True)
class SceneBatch(PictureBatch):
    """With the truth: the ``scenes`` that are shown."""

    scenes: Sequence[Scene]


class SceneStream:
    """Batches of scenes by step.

    Args:
        world: what may be drawn.
        atlas: its drawings; the device of the atlas is where pictures are made.
        views: sizes to draw at; each batch takes one, with probability proportional to its weight.
        seed: two streams of one seed are equal, of different seeds unrelated.
        split: "train", or "held-out" for combinations never trained.
        short_captions: fraction of captions in the short form.
    """

    def __init__(
        self,
        world: World,
        atlas: Atlas,
        views: Sequence[View],
        seed: int = 0,
        split: Split = "train",
        short_captions: float = 0.5,
    ) -> None:
        self.world, self.atlas, self.views = world, atlas, tuple(views)
        self.seed, self.split, self.short_captions = seed, split, short_captions

    def describe(self, step: int, batch_size: int, rows: range | None = None) -> SceneDescription:
        """Scenes, captions and crops of a batch, or of some rows of it."""
        draw = random.Random(f"view {self.seed} {step}")
        view = draw.choices(self.views, [view.weight for view in self.views])[0]
        scenes, captions, top, left = [], [], [], []
        for row in range(batch_size) if rows is None else rows:
            draw = random.Random(f"scene {self.seed} {step * batch_size + row}")
            scene = self.world.sample(draw.getrandbits(48), self.split)
            caption = short_caption if draw.random() < self.short_captions else long_caption
            captions.append(caption(scene, draw.getrandbits(48)))
            scenes.append(scene)
            spare = (view.size - view.side) // CROP_GRID
            top.append(draw.randint(0, spare) * CROP_GRID)
            left.append(draw.randint(0, spare) * CROP_GRID)
        return SceneDescription(scenes, captions, view, top, left)

    def caption_pairs(self, step: int, batch_size: int) -> list[tuple[str, str]]:
        """The short and the long caption of each scene of a batch, nothing drawn."""
        return [captions for _, captions in self.captioned(step, batch_size)]

    def captioned(self, step: int, batch_size: int) -> list[tuple[Scene, tuple[str, str]]]:
        """The scenes of :meth:`caption_pairs`, each with its pair."""
        captioned = []
        for index in range(step * batch_size, (step + 1) * batch_size):
            draw = random.Random(f"pair {self.seed} {index}")
            scene = self.world.sample(draw.getrandbits(48), self.split)
            short = short_caption(scene, draw.getrandbits(48))
            captioned.append((scene, (short, long_caption(scene, draw.getrandbits(48)))))
        return captioned

    def draw(self, described: SceneDescription) -> SceneBatch:
        """Pictures of a described batch."""
        size, side = described.view.size, described.view.side
        crop = Crop(side, side, described.top, described.left)
        x = render(self.atlas, described.scenes, size, size, crop)
        corners = zip(described.top, described.left, strict=True)
        time_ids = [[size, size, top, left, side, side] for top, left in corners]
        return SceneBatch(
            x,
            described.captions,
            torch.tensor(time_ids, dtype=torch.float32, device=x.device),
            described.scenes,
            whole=described.view.crop == 0,
        )

    def batch(self, step: int, batch_size: int, rows: range | None = None) -> SceneBatch:
        return self.draw(self.describe(step, batch_size, rows))
