"""Scenes to pixels: a function from (atlas, scene parameters) to pictures, on any device.

Everything is a function of position, evaluated at the centres of the pixels asked for: a picture
renders at any size, and a crop costs only its own pixels. Order, for all pictures of a batch at
once: the style says where to look, the background gives a colour there, things are laid over it,
the style puts the result on paper.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.data.scenes.backgrounds import BACKGROUNDS, COLOURS
from relay_diffusion.data.scenes.patterns import WEAVE, wave
from relay_diffusion.data.scenes.scene import Scene
from relay_diffusion.data.scenes.styles import STYLES

NUM_RANDOM = 8
OUTLINE_SIDE = 40
"""Pyramid level whose alpha gives the soft outline, a fortieth of the thing wide."""


@dataclass(frozen=True)
class SceneParameters:
    """A batch of scenes as tensors; K is the largest number of things among them.

    Attributes:
        subject: (B, K) index into the atlas, -1 where there is no thing.
        box: (B, K, 4) centre x, centre y, side, and -1 or 1 (mirrored or not), as in ``Thing``.
        tint: (B, K, 3) colour in [0, 1], or -1 for the drawing's own colours.
        background, style: names, one per picture.
        rand: (B, 8) uniform numbers from the scene's seed.
    """

    subject: Tensor
    box: Tensor
    tint: Tensor
    background: tuple[str, ...]
    style: tuple[str, ...]
    rand: Tensor

    @classmethod
    def of(cls, scenes: Sequence[Scene], atlas: Atlas) -> SceneParameters:
        most = max(len(scene.things) for scene in scenes)
        subject, box, tint, rand = [], [], [], []
        for scene in scenes:
            spare = most - len(scene.things)
            subject.append([atlas.index(t.subject) for t in scene.things] + [-1] * spare)
            boxes = [(t.x, t.y, t.size, -1.0 if t.flip else 1.0) for t in scene.things]
            box.append(boxes + [(0.0, 0.0, 1.0, 1.0)] * spare)
            tints = [COLOURS[t.tint] if t.tint else (-1.0,) * 3 for t in scene.things]
            tint.append(tints + [(-1.0,) * 3] * spare)
            draw = random.Random(scene.seed)
            rand.append([draw.random() for _ in range(NUM_RANDOM)])
        device = atlas.device
        return cls(
            torch.tensor(subject, device=device),
            torch.tensor(box, device=device),
            torch.tensor(tint, device=device),
            tuple(scene.background for scene in scenes),
            tuple(scene.style for scene in scenes),
            torch.tensor(rand, device=device),
        )


@dataclass(frozen=True)
class Crop:
    """A window of ``height`` x ``width`` pixels, its corner at (``top``, ``left``) by picture."""

    height: int
    width: int
    top: Sequence[int]
    left: Sequence[int]


@torch.no_grad()
def render(
    atlas: Atlas,
    scenes: Sequence[Scene] | SceneParameters,
    height: int,
    width: int,
    crop: Crop | None = None,
) -> Tensor:
    """Draw scenes.

    Args:
        atlas: the drawings; its device is where the work is done.
        scenes: B scenes, or their parameters.
        height, width: size of the whole picture in pixels.
        crop: draw only this window of each picture.
    Returns: (B, 3, height, width), or the crop's size, float32 in [-1, 1].
    """
    batch = scenes if isinstance(scenes, SceneParameters) else SceneParameters.of(scenes, atlas)
    short = min(height, width)
    p = _positions(len(batch.style), height, width, crop, atlas.device)

    looked_at = torch.empty_like(p)
    for name, rows in _groups(batch.style, atlas.device):
        looked_at[rows] = STYLES[name].place(p[rows], batch.rand[rows])

    pixel = torch.full((len(p), 1, 1), 1 / short, device=atlas.device)
    grain = torch.tensor([STYLES[name].grain for name in batch.style], device=atlas.device)
    footprint = torch.maximum(pixel, grain[:, None, None])
    colour = torch.empty(*p.shape[:3], 3, device=atlas.device)
    for name, rows in _groups(batch.background, atlas.device):
        colour[rows] = BACKGROUNDS[name](looked_at[rows], footprint[rows], batch.rand[rows])

    edge = torch.zeros(p.shape[:3], device=atlas.device)
    extent = torch.tensor([width / short, height / short], device=atlas.device)
    for k in range(batch.subject.shape[1]):
        _lay_thing(atlas, batch, k, looked_at, extent, footprint, colour, edge)

    for name, rows in _groups(batch.style, atlas.device):
        colour[rows] = STYLES[name].paint(
            colour[rows], edge[rows], p[rows], pixel[rows], batch.rand[rows]
        )
    return colour.clamp_(0, 1).mul_(2).sub_(1).permute(0, 3, 1, 2).contiguous()


def _positions(
    num: int, height: int, width: int, crop: Crop | None, device: torch.device
) -> Tensor:
    """Centres of the pixels in units of the shorter side, (B, H, W, 2)."""
    crop = crop or Crop(height, width, [0] * num, [0] * num)
    top = torch.tensor(crop.top, device=device)[:, None, None]
    left = torch.tensor(crop.left, device=device)[:, None, None]
    y = top + torch.arange(crop.height, device=device)[None, :, None] + 0.5
    x = left + torch.arange(crop.width, device=device)[None, None, :] + 0.5
    return torch.stack(torch.broadcast_tensors(x, y), -1) / min(height, width)


def _groups(names: Sequence[str], device: torch.device) -> list[tuple[str, Tensor]]:
    """Each name with the indices of the pictures that have it."""
    return [
        (name, torch.tensor([i for i, other in enumerate(names) if other == name], device=device))
        for name in sorted(set(names))
    ]


def _lay_thing(
    atlas: Atlas,
    batch: SceneParameters,
    k: int,
    p: Tensor,
    extent: Tensor,
    footprint: Tensor,
    colour: Tensor,
    edge: Tensor,
) -> None:
    """Draw the k-th thing of every picture over ``colour`` and note its outline in ``edge``."""
    sides = [level.shape[-1] for level in atlas.levels]
    outline = min(sides, key=lambda side: abs(side - OUTLINE_SIDE))
    # One pyramid level for a thing: the smallest that has at least three quarters of its pixels.
    wanted = 0.75 * batch.box[:, k, 2] / footprint[:, 0, 0]
    fits = torch.stack([wanted <= side for side in sides])
    level_of = (fits.sum(0) - 1).clamp(0, len(sides) - 1)
    present = batch.subject[:, k] >= 0
    for level in range(len(sides)):
        rows = torch.nonzero(present & (level_of == level)).flatten()
        if len(rows) == 0:
            continue
        box = batch.box[rows, k]
        q = p[rows] - (box[:, :2] * extent)[:, None, None]
        q = q * (2 / box[:, 2])[:, None, None, None]
        grid = torch.stack([q[..., 0] * box[:, 3, None, None], q[..., 1]], -1)
        subject = batch.subject[rows, k]
        drawing = atlas.levels[level][subject].float() / 255
        seen = F.grid_sample(drawing, grid, align_corners=False).permute(0, 2, 3, 1)
        alpha, ink = seen[..., 3:], seen[..., :3]

        tint = batch.tint[rows, k]
        dyed = torch.nonzero(tint[:, 0] >= 0).flatten()
        if len(dyed):
            ink = ink.clone()
            ink[dyed] = _dye(
                ink[dyed], alpha[dyed], tint[dyed], p[rows[dyed]], footprint[rows[dyed]]
            )

        coarse = atlas.levels[sides.index(outline)][subject, 3:].float() / 255
        soft = F.grid_sample(coarse, grid, align_corners=False)[:, 0]
        edge[rows] = torch.maximum(edge[rows], 4 * soft * (1 - soft))
        # A faint contact shadow sets a thing off from a background of its own colour.
        shaded = colour[rows] * (1 - 0.35 * soft * (1 - alpha[..., 0]))[..., None]
        colour[rows] = shaded * (1 - alpha) + ink


def _dye(ink: Tensor, alpha: Tensor, tint: Tensor, p: Tensor, footprint: Tensor) -> Tensor:
    """Dye a drawing: its lights and darks stay, its hue becomes the tint's, in a fine twill.

    Args: ink premultiplied (B, H, W, 3); alpha (B, H, W, 1); tint (B, 3); p (B, H, W, 2).
    """
    light = (ink @ ink.new_tensor([0.299, 0.587, 0.114])) / alpha[..., 0].clamp(min=1e-3)
    light = light.clamp(0, 1)
    shade = 0.30 + 0.70 * (light / 0.6).clamp(max=1)
    gleam = 0.55 * ((light - 0.6) / 0.4).clamp(min=0)
    twill = 0.86 + 0.28 * wave((p[..., 0] + p[..., 1]) * WEAVE, 0.7071 / WEAVE, footprint)
    dyed = tint[:, None, None] * (shade * twill)[..., None]
    return (dyed + (1 - dyed) * gleam[..., None]) * alpha
