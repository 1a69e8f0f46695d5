from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from relay_diffusion.errors import RelayError
from relay_diffusion.models.low_resolution import enlarge
from relay_diffusion.pipelines.pictures import (
    cover,
    from_pixels,
    open_picture,
    pad_to_multiple,
    to_pixels,
)


def noise_picture(width: int = 6, height: int = 5) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_every_form_of_a_picture_gives_the_same_pixels() -> None:
    image = noise_picture()
    array = np.asarray(image)
    x = to_pixels(image)
    assert x.shape == (1, 3, 5, 6)
    forms = [
        array,
        array[None],
        array.astype(np.float32) / 255,
        torch.from_numpy(array.copy()).movedim(-1, 0),
        torch.from_numpy(array.copy()).movedim(-1, 0)[None] / 255,
        [image],
    ]
    for form in forms:
        torch.testing.assert_close(to_pixels(form), x)


def test_pixels_survive_the_way_in_and_out() -> None:
    image = noise_picture()
    assert from_pixels(to_pixels(image), "pil")[0].tobytes() == image.tobytes()


def test_sixteen_bits_of_grey_are_not_clipped() -> None:
    grey = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    assert to_pixels(grey)[0, 0, 0].tolist() == pytest.approx([-1, 0, 1], abs=0.01)


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert to_pixels(clear).eq(1).all()


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
def test_arrays_are_taken_as_the_pictures_of_their_channels(mode: str, channels: int) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 6, channels), dtype=np.uint8)
    x = to_pixels(Image.fromarray(array.squeeze(), mode))
    for form in (array, array[None], array.astype(np.float32) / 255):
        torch.testing.assert_close(to_pixels(form), x, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("picture", "complaint"),
    [
        (torch.full((1, 3, 4, 4), -1.0), r"outside \[0, 1\]"),
        (torch.full((3, 4, 4), float("nan")), r"outside \[0, 1\]"),
        (torch.zeros(1, 4, 4, 4), "three colours"),
        (torch.zeros(3, 0, 4), "three colours"),
        (np.zeros((4, 4, 5)), r"shape \(4, 4, 5\); it must have three colours"),
        (np.zeros(4), "three colours"),
        ("fox.png", "of type str"),
        ([], "no picture"),
        ([Image.new("RGB", (4, 4)), Image.new("RGB", (4, 5))], "differ in size"),
    ],
)
def test_what_is_no_picture_is_refused(picture: object, complaint: str) -> None:
    with pytest.raises(RelayError, match=complaint):
        to_pixels(picture)


def test_enlarging_is_bilinear_with_half_pixel_centres() -> None:
    x = torch.tensor([0.0, 1.0]).expand(1, 3, 2, 2)
    assert enlarge(x)[0, 0, 0].tolist() == [0, 0.25, 0.75, 1]


@pytest.mark.parametrize(("height", "width"), [(5, 7), (1, 1), (8, 3), (16, 16)])
def test_padding_keeps_the_picture_where_it_was(height: int, width: int) -> None:
    x = torch.rand(1, 3, height, width)
    padded = pad_to_multiple(x, 8)
    assert padded.shape[2] % 8 == padded.shape[3] % 8 == 0
    assert torch.equal(padded[:, :, :height, :width], x)


def test_cover_cuts_the_middle_without_stretching() -> None:
    x = torch.full((1, 3, 8, 24), -1.0)
    x[..., 8:16] = 1
    assert cover(x, 4, 4).gt(0.99).all()


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n broken"])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(content)
    with pytest.raises(RelayError, match=r"broken\.png cannot be read as a picture"):
        open_picture(file)


def test_a_cut_off_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "cut.png"
    noise_picture(64, 64).save(file)
    file.write_bytes(file.read_bytes()[:4000])
    with pytest.raises(RelayError, match="cannot be read"):
        open_picture(file)


@pytest.mark.parametrize("side", [5000, 20000])
def test_a_gigantic_file_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    file = tmp_path / "bomb.png"
    Image.new("1", (side, side)).save(file)
    with pytest.raises(RelayError, match=r"bomb\.png|limit"):
        open_picture(file)


def test_a_picture_that_lies_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise_picture(6, 4).save(tmp_path / "turned.png", exif=exif)
    assert open_picture(tmp_path / "turned.png").size == (4, 6)
