"""Drawing styles. A style is two functions: where to look, and how what is seen gets onto paper.

``place`` moves positions (pixel art looks at the centre of its block, watercolour trembles), so
that a style needs no second pass over pixels and works on crops and at any resolution. ``paint``
turns colour into the picture's colour, given the soft outline of the things.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from relay_diffusion.data.scenes.patterns import cell_random, disc, lines, noise, wave, weave

Place = Callable[[Tensor, Tensor], Tensor]
Paint = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Style:
    """``place(p, rand) -> p``; ``paint(colour, edge, p, footprint, rand) -> colour``; and the size
    below which the style shows nothing (a block, a stitch), as a fraction of the shorter side.

    p is (B, H, W, 2) in units of the shorter side, before ``place``; colour (B, H, W, 3) in [0, 1];
    edge (B, H, W) in [0, 1], 1 on the outline of a thing; rand (B, 8) uniform.
    """

    place: Place
    paint: Paint
    grain: float = 0.0


def _luminance(colour: Tensor) -> Tensor:
    return colour @ colour.new_tensor([0.299, 0.587, 0.114])


def _stay(p: Tensor, rand: Tensor) -> Tensor:
    return p


def _as_seen(colour: Tensor, edge: Tensor, p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    return colour


PIXELS = 64


def _blocks(p: Tensor, rand: Tensor) -> Tensor:
    return ((p * PIXELS).floor() + 0.5) / PIXELS


def _posterise(colour: Tensor, edge: Tensor, p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    steps = (colour * 6).round() / 6
    bevel = torch.maximum(
        lines(p[..., 0] * PIXELS, 0.16, 1 / PIXELS, footprint),
        lines(p[..., 1] * PIXELS, 0.16, 1 / PIXELS, footprint),
    )
    # Gaps between the blocks as on a screen: only there where a block has eight pixels (512).
    visible = ((1 / PIXELS / footprint) - 4).clamp(0, 4) / 4
    return steps * (1 - 0.22 * bevel * visible)[..., None]


def _pencil(colour: Tensor, edge: Tensor, p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    tooth = 0.93 + 0.18 * weave(p, footprint)
    paper = colour.new_tensor([0.97, 0.96, 0.92])
    dark = 1 - _luminance(colour)
    angle = 0.55 + 0.3 * rand[:, 0, None, None]
    along = p[..., 0] * torch.cos(angle) + p[..., 1] * torch.sin(angle)
    wobble = 0.35 * noise(p, 10, footprint, rand[:, 1:3])
    strokes = wave(along * 60 + wobble, 1 / 60, footprint)
    # Darker places get wider strokes; 0.35 of the colour lies under them like a wash.
    cover = ((0.30 + 0.95 * dark - strokes) * 2.5).clamp(0, 1)
    cover = 0.38 + 0.57 * cover
    grey = colour * 0.75 + 0.25 * _luminance(colour)[..., None]
    drawn = paper + (grey - paper) * cover[..., None]
    return drawn * (tooth * (1 - 0.55 * edge))[..., None]


def _tremble(p: Tensor, rand: Tensor) -> Tensor:
    turn = 6.28 * rand[:, None, None, 0:2]
    return p + 0.006 * torch.sin(p.flip(-1) * 31 + turn) + 0.004 * torch.sin(p.flip(-1) * 67 + turn)


def _wash(colour: Tensor, edge: Tensor, p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    pigment = noise(p, 9, footprint, rand[:, 2:4])
    paper = weave(p, footprint)
    density = 0.62 + 0.30 * pigment + 0.22 * edge
    washed = 1 - (1 - colour) * density[..., None]
    return washed * (0.93 + 0.28 * paper)[..., None]


STITCHES = 44


def _stitch_rows(p: Tensor) -> Tensor:
    """Position in stitches; rows lean up on both sides of each column, which makes the V."""
    x = p[..., 0] * STITCHES
    lean = (x - x.floor() - 0.5).abs()
    return torch.stack([x, p[..., 1] * STITCHES * 1.25 + lean], -1)


def _stitches(p: Tensor, rand: Tensor) -> Tensor:
    q = _stitch_rows(p).floor() + 0.5
    return torch.stack([q[..., 0] / STITCHES, (q[..., 1] - 0.25) / (STITCHES * 1.25)], -1)


def _knit(colour: Tensor, edge: Tensor, p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    q = _stitch_rows(p)
    gap = torch.maximum(
        lines(q[..., 0], 0.22, 1 / STITCHES, footprint),
        lines(q[..., 1], 0.26, 0.8 / STITCHES, footprint),
    )
    fibre = wave(q[..., 1] * 3, 1 / (STITCHES * 3.75), footprint)
    return colour * (1.02 - 0.42 * gap + 0.10 * (fibre - 0.5))[..., None]


TILES = 42


def _tiles(p: Tensor, rand: Tensor) -> Tensor:
    return ((p * TILES).floor() + 0.5) / TILES


def _mosaic(colour: Tensor, edge: Tensor, p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    q = p * TILES
    shade = 0.86 + 0.22 * cell_random(q.floor(), rand[:, 0:2])
    grout = torch.maximum(
        lines(q[..., 0], 0.20, 1 / TILES, footprint), lines(q[..., 1], 0.20, 1 / TILES, footprint)
    )
    stone = (colour * shade[..., None]).clamp(0, 1)
    return stone + (colour.new_tensor([0.90, 0.88, 0.84]) - stone) * grout[..., None]


def _chalk(colour: Tensor, edge: Tensor, p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    board = colour.new_tensor([0.13, 0.19, 0.17])
    grain = noise(p, 70, footprint, rand[:, 0:2])
    strokes = wave((p[..., 0] + 0.6 * p[..., 1]) * 56, 1 / 65, footprint)
    light = _luminance(colour)
    cover = (0.25 + 0.85 * light) * (0.62 + 0.25 * strokes + 0.25 * grain) + 0.35 * edge
    pale = colour * 0.6 + 0.4
    return board + (pale - board) * cover.clamp(0, 1)[..., None]


DOTS = 56


def _halftone(colour: Tensor, edge: Tensor, p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    q = torch.stack([p[..., 0] + p[..., 1], p[..., 0] - p[..., 1]], -1) * (DOTS * 0.7071)
    offset = (q - q.round()) / DOTS
    dark = 1 - _luminance(colour)
    radius = (0.15 + 0.50 * dark) / DOTS
    dot = disc(offset, radius, footprint.clamp(max=0.5 / DOTS))
    bright = (colour * 1.25 + 0.06).clamp(0, 1)
    inked = bright * (1 - 0.38 * dot)[..., None]
    return inked * (1 - 0.85 * edge)[..., None]


STYLES: dict[str, Style] = {
    "flat": Style(_stay, _as_seen),
    "pixel art": Style(_blocks, _posterise, 1 / PIXELS),
    "pencil sketch": Style(_stay, _pencil),
    "watercolour": Style(_tremble, _wash),
    "knitted": Style(_stitches, _knit, 1 / STITCHES),
    "mosaic": Style(_tiles, _mosaic, 1 / TILES),
    "chalk drawing": Style(_stay, _chalk),
    "comic print": Style(_stay, _halftone),
}
