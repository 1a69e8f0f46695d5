"""What stands behind the things: plain colours and textured surfaces, as functions of position.

Each takes positions p (B, H, W, 2) in units of the picture's shorter side, the width of a pixel in
that unit (B, 1, 1), and eight uniform numbers per picture (B, 8); it returns colours (B, H, W, 3)
in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from relay_diffusion.data.scenes.patterns import cell_random, disc, fade, lines, noise, wave, weave

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.16, 0.17),
    "orange": (0.97, 0.55, 0.13),
    "yellow": (0.98, 0.85, 0.25),
    "green": (0.25, 0.66, 0.30),
    "blue": (0.18, 0.42, 0.84),
    "purple": (0.52, 0.28, 0.70),
    "pink": (0.97, 0.60, 0.75),
    "brown": (0.50, 0.33, 0.20),
    "white": (0.97, 0.97, 0.95),
    "grey": (0.56, 0.57, 0.59),
    "black": (0.10, 0.10, 0.12),
    "turquoise": (0.20, 0.74, 0.73),
}
"""Backgrounds and tints share these, so that a colour's name means one thing."""

Surface = Callable[[Tensor, Tensor, Tensor], Tensor]


def _rgb(p: Tensor, *colour: float) -> Tensor:
    return p.new_tensor(colour)


def _mix(a: Tensor, b: Tensor, amount: Tensor) -> Tensor:
    return a + (b - a) * amount[..., None]


def plain(name: str) -> Surface:
    """One colour, its shade a little different in every picture, on finely woven canvas."""

    def surface(p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
        shade = (0.92 + 0.14 * rand[:, 0])[:, None, None]
        colour = _rgb(p, *COLOURS[name])
        return colour * (shade * (1 + 0.30 * (weave(p, footprint) - 0.25)))[..., None]

    return surface


def brick_wall(p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    rows = 9.0
    y = p[..., 1] * rows + rand[:, 0, None, None]
    row = y.floor()
    x = p[..., 0] * rows / 2 + 0.5 * (row % 2) + rand[:, 1, None, None]
    shade = cell_random(torch.stack([x.floor(), row], -1), rand[:, 2:4])
    brick = _mix(_rgb(p, 0.66, 0.30, 0.22), _rgb(p, 0.80, 0.44, 0.32), shade)
    scratches = wave(y * 9 + 2 * shade, 1 / (9 * rows), footprint)
    brick = brick * (0.93 + 0.14 * scratches)[..., None]
    mortar = torch.maximum(lines(y, 0.14, 1 / rows, footprint), lines(x, 0.07, 2 / rows, footprint))
    return _mix(brick, _rgb(p, 0.84, 0.80, 0.74), mortar)


def meadow(p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    patch = noise(p, 5, footprint, rand[:, 0:2])
    ground = _mix(_rgb(p, 0.26, 0.55, 0.17), _rgb(p, 0.47, 0.72, 0.25), patch)
    bend = 0.25 * torch.sin(p[..., 1] * 40 + 6 * patch)
    blades = wave(p[..., 0] * 64 + bend + 3 * patch, 1 / 64, footprint)
    rows = wave(p[..., 1] * 20 + patch * 2, 1 / 20, footprint)
    return ground * (0.80 + 0.26 * blades + 0.10 * rows)[..., None]


def wooden_planks(p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    planks = 6.0
    y = p[..., 1] * planks + rand[:, 0, None, None]
    row = y.floor()
    shade = cell_random(torch.stack([row, row], -1), rand[:, 1:3])
    wood = _mix(_rgb(p, 0.58, 0.39, 0.22), _rgb(p, 0.74, 0.54, 0.33), shade)
    bow = 0.5 * torch.sin(p[..., 0] * (5 + 4 * shade) + 20 * shade)
    grain = wave(y * 11 + bow, 1 / (11 * planks), footprint)
    wood = wood * (0.88 + 0.22 * grain)[..., None]
    return _mix(wood, _rgb(p, 0.27, 0.17, 0.10), lines(y, 0.07, 1 / planks, footprint))


def checkered_tablecloth(p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    checks = 4.0
    bands = [
        lines(p[..., axis] * checks + rand[:, axis, None, None], 0.5, 1 / checks, footprint)
        for axis in (0, 1)
    ]
    twill = wave((p[..., 0] + p[..., 1]) * 62, 1 / 88, footprint)
    amount = (bands[0] + bands[1]) / 2
    cloth = _mix(_rgb(p, 0.97, 0.96, 0.93), _rgb(p, 0.80, 0.13, 0.15), amount)
    return cloth * (0.93 + 0.10 * twill)[..., None]


def polka_dots(p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    dots = 6.0
    q = p * dots + rand[:, None, None, 0:2]
    x = q[..., 0] + 0.5 * (q[..., 1].floor() % 2)
    offset = torch.stack([x - x.floor() - 0.5, q[..., 1] - q[..., 1].floor() - 0.5], -1)
    spot = disc(offset / dots, 0.27 / dots, footprint)
    rib = wave(p[..., 1] * 90, 1 / 90, footprint)
    cloth = _mix(_rgb(p, 0.35, 0.70, 0.78), _rgb(p, 0.99, 0.98, 0.95), spot)
    return cloth * (0.95 + 0.08 * rib)[..., None]


def stripes(p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    bands = lines(p[..., 0] * 5 + rand[:, 0, None, None], 0.5, 1 / 5, footprint)
    rib = wave(p[..., 0] * 90, 1 / 90, footprint)
    cloth = _mix(_rgb(p, 0.98, 0.95, 0.86), _rgb(p, 0.90, 0.55, 0.38), bands)
    return cloth * (0.95 + 0.08 * rib)[..., None]


def tiled_floor(p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    tiles = 5.0
    q = p * tiles + rand[:, None, None, 0:2]
    shade = cell_random(q.floor(), rand[:, 2:4])
    tile = _mix(_rgb(p, 0.72, 0.80, 0.84), _rgb(p, 0.83, 0.89, 0.91), shade)
    marble = wave((p[..., 0] - p[..., 1]) * 50 + 3 * shade, 1 / 70, footprint)
    tile = tile * (0.95 + 0.08 * marble)[..., None]
    grout = torch.maximum(
        lines(q[..., 0], 0.08, 1 / tiles, footprint), lines(q[..., 1], 0.08, 1 / tiles, footprint)
    )
    return _mix(tile, _rgb(p, 0.36, 0.42, 0.46), grout)


def starry_night(p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    height = p[..., 1].clamp(0, 1)
    cloud = noise(p, 4, footprint, rand[:, 0:2])
    sky = _mix(_rgb(p, 0.05, 0.06, 0.20), _rgb(p, 0.17, 0.20, 0.45), height * 0.7 + cloud * 0.4)
    cells = 11.0
    q = p * cells + rand[:, None, None, 2:4]
    cell = q.floor()
    chance = cell_random(cell, rand[:, 4:6])
    centre = 0.5 + 0.5 * (
        torch.stack([cell_random(cell, rand[:, 5:7]), cell_random(cell, rand[:, 3:5])], -1) - 0.5
    )
    radius = (0.06 + 0.11 * chance) / cells
    star = disc((q - cell - centre) / cells, radius, footprint) * (chance > 0.35)
    return _mix(sky, _rgb(p, 1.0, 0.97, 0.80), star)


def sand(p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    dune = noise(p, 4, footprint, rand[:, 0:2])
    ripple = wave(p[..., 1] * 34 + 0.6 * torch.sin(p[..., 0] * 9) + 4 * dune, 1 / 34, footprint)
    ground = _mix(_rgb(p, 0.86, 0.72, 0.48), _rgb(p, 0.95, 0.84, 0.62), dune)
    return ground * (0.92 + 0.13 * ripple)[..., None]


def water(p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    swell = noise(p, 4, footprint, rand[:, 0:2])
    sea = _mix(_rgb(p, 0.12, 0.42, 0.66), _rgb(p, 0.24, 0.60, 0.78), swell)
    crest = wave(p[..., 1] * 22 + 0.7 * torch.sin(p[..., 0] * 22 + 5 * swell), 1 / 22, footprint)
    glint = (crest - 0.72).clamp(min=0) / 0.28 * fade(1 / 22, footprint)
    return _mix(sea, _rgb(p, 0.85, 0.95, 0.98), 0.75 * glint)


def snow(p: Tensor, footprint: Tensor, rand: Tensor) -> Tensor:
    drift = noise(p, 3, footprint, rand[:, 0:2])
    ground = _mix(_rgb(p, 0.84, 0.89, 0.96), _rgb(p, 0.98, 0.99, 1.0), drift)
    q = p * 24 + rand[:, None, None, 2:4]
    sparkle = cell_random(q.floor(), rand[:, 4:6])
    flake = disc((q - q.floor() - 0.5) / 24, 0.2 / 24, footprint) * (sparkle > 0.6)
    return _mix(ground, _rgb(p, 0.66, 0.76, 0.92), flake)


BACKGROUNDS: dict[str, Surface] = {name: plain(name) for name in COLOURS} | {
    "brick wall": brick_wall,
    "meadow": meadow,
    "wooden planks": wooden_planks,
    "checkered tablecloth": checkered_tablecloth,
    "polka dots": polka_dots,
    "stripes": stripes,
    "tiled floor": tiled_floor,
    "starry night": starry_night,
    "sand": sand,
    "water": water,
    "snow": snow,
}
