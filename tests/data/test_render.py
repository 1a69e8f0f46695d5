"""The renderer: position, tint, resolution, crops, and detail that enlargement cannot make."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from relay_diffusion.data.scenes.atlas import Atlas, build_atlas
from relay_diffusion.data.scenes.backgrounds import BACKGROUNDS, COLOURS
from relay_diffusion.data.scenes.render import Crop, render
from relay_diffusion.data.scenes.scene import Scene, Thing
from relay_diffusion.data.scenes.styles import STYLES
from relay_diffusion.errors import RelayError

from .shapes import SIDE, draw_shape, shapes_atlas

ATLAS = shapes_atlas(["ball", "sea", "sun", "leaf"])
BALL = Thing("ball", None, 0.3, 0.6, 0.3)
SUN = replace(BALL, subject="sun", x=0.7)


def scene(*things: Thing, background: str = "white", style: str = "flat", seed: int = 1) -> Scene:
    return Scene(things, None, background, style, seed)


def psnr(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return -10 * ((x - y) / 2).square().mean((1, 2, 3)).log10()


def test_a_thing_is_drawn_where_the_scene_says() -> None:
    x = render(ATLAS, [scene(BALL)], 128, 128)[0]
    redness = x[0] - x[1]
    rows, columns = torch.nonzero(redness > 0.5, as_tuple=True)
    assert abs(columns.float().mean() / 128 - 0.3) < 0.01
    assert abs(rows.float().mean() / 128 - 0.6) < 0.01
    # The ball fills 0.8 of its box of 0.3 pictures.
    width = (columns.max() - columns.min()).item() / 128
    assert abs(width - 0.24) < 0.02


def test_a_wide_picture_keeps_things_round() -> None:
    x = render(ATLAS, [replace(scene(BALL), aspect=2.0)], 96, 192)[0]
    rows, columns = torch.nonzero(x[0] - x[1] > 0.5, as_tuple=True)
    assert abs(columns.float().mean() / 192 - 0.3) < 0.01
    height, width = (rows.max() - rows.min()).item(), (columns.max() - columns.min()).item()
    assert abs(height - width) <= 1


def test_a_mirrored_thing_is_the_mirror_of_it() -> None:
    half = Image.new("RGBA", (SIDE, SIDE))
    half.paste(draw_shape(0).crop((0, 0, SIDE // 2, SIDE)), (0, 0))
    atlas = Atlas.from_images({"half": half})
    thing = Thing("half", None, 0.5, 0.5, 0.5)
    plain, mirrored = render(atlas, [scene(thing), scene(replace(thing, flip=True))], 64, 64)
    assert torch.allclose(plain.flip(-1), mirrored, atol=0.02)
    assert (plain - mirrored).abs().max() > 0.5


@pytest.mark.parametrize("tint", ["red", "green", "blue"])
def test_a_tinted_thing_takes_the_hue_of_its_tint(tint: str) -> None:
    x = render(ATLAS, [scene(replace(BALL, tint=tint))], 128, 128)[0]
    centre = x[:, 70:84, 32:46].mean((1, 2))
    assert int(centre.argmax()) == int(torch.tensor(COLOURS[tint]).argmax())


@pytest.mark.parametrize("style", sorted(STYLES))
def test_one_scene_is_the_same_picture_at_every_size(style: str) -> None:
    many = [scene(BALL, background=name, style=style) for name in sorted(BACKGROUNDS)]
    small, large = render(ATLAS, many, 64, 64), render(ATLAS, many, 256, 256)
    assert psnr(F.avg_pool2d(large, 4), small).mean() > 20


def test_a_crop_is_a_window_of_the_whole_picture() -> None:
    many = [scene(BALL, style=style) for style in sorted(STYLES)]
    whole = render(ATLAS, many, 128, 128)
    top, left = [16 * (i % 5) for i in range(len(many))], [8 * i for i in range(len(many))]
    window = render(ATLAS, many, 128, 128, Crop(32, 48, top, left))
    for picture, part, i, j in zip(whole, window, top, left, strict=True):
        assert torch.equal(picture[:, i : i + 32, j : j + 48], part)


def test_a_picture_does_not_depend_on_its_batch() -> None:
    many = [
        scene(BALL, *([SUN] * (i % 2)), style=style, background=name)
        for i, (style, name) in enumerate(
            zip(sorted(STYLES), sorted(BACKGROUNDS)[: len(STYLES)], strict=True)
        )
    ]
    together = render(ATLAS, many, 64, 64)
    for one, picture in zip(many, together, strict=True):
        assert torch.allclose(render(ATLAS, [one], 64, 64)[0], picture, atol=1e-6)


@pytest.mark.slow
def test_enlarging_256_does_not_make_512() -> None:
    things = [Thing(name, None, 0.5, 0.5, 0.45) for name in ATLAS.subjects]
    many = [
        scene(things[i % 4], style=style, background=name, seed=i)
        for i, (style, name) in enumerate(
            (style, name) for style in sorted(STYLES) for name in sorted(BACKGROUNDS)[::4]
        )
    ]
    small, large = render(ATLAS, many, 256, 256), render(ATLAS, many, 512, 512)
    enlarged = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
    assert psnr(enlarged, large).mean() < 28


def test_an_atlas_survives_its_file(tmp_path) -> None:
    circle = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">'
        '<circle r="4" cx="5" cy="5" fill="red"/></svg>'
    )
    pytest.importorskip("resvg_py")
    (tmp_path / "dot.svg").write_text(circle)
    build_atlas(tmp_path, tmp_path / "atlas.tar", ["dot"], side=80)
    atlas = Atlas.load(tmp_path / "atlas.tar")
    assert [level.shape[-1] for level in atlas.levels] == [80, 40, 20]
    assert atlas.levels[0][0, :, 40, 40].tolist() == [255, 0, 0, 255]
    assert atlas.levels[0][0, 3, 0, 0] == 0


def test_what_is_missing_is_named(tmp_path) -> None:
    with pytest.raises(RelayError, match="relay scenes --build-atlas"):
        Atlas.load(tmp_path / "no.tar")
    with pytest.raises(RelayError, match="'unicorn'"):
        render(ATLAS, [scene(replace(BALL, subject="unicorn"))], 32, 32)
