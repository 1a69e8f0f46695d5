"""Odd pictures are made right, bad ones are named, counted and left out."""

from __future__ import annotations

import io
import json
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from relay_diffusion.data.pictures.collection import Collection, open_collection
from relay_diffusion.data.pictures.decoding import decode, measure
from relay_diffusion.data.pictures.faults import PictureFault
from relay_diffusion.data.pictures.stream import PictureStream
from relay_diffusion.data.view import View
from relay_diffusion.errors import RelayError
from tests.data.drawn import Drawn, drawn, encoded, picture, write_folder

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))


def decoded(data: bytes) -> Image.Image:
    return decode(io.BytesIO(data))


def chunk(name: bytes, data: bytes) -> bytes:
    check = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 30000x30000."""
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encoded(NOISE)[:5000], "truncated"),
        (encoded(NOISE, "JPEG")[:3000], "truncated"),
        (encoded(NOISE, "WEBP", lossless=True)[:3000], "broken|truncated|not a picture"),
        (b"", "not a picture"),
        (b"<html>no such picture</html>", "not a picture"),
        (bomb(), "too large: at most"),
        (encoded(Image.new("F", (8, 8)), "TIFF"), "pixels not handled: F"),
    ],
    ids=["png", "jpeg", "webp", "empty", "html", "bomb", "float"],
)
def test_a_bad_file_has_a_named_reason(data: bytes, kind: str) -> None:
    with pytest.raises(PictureFault, match=f"^({kind})"):
        decoded(data)


def test_colours_survive_cmyk() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red, green, blue = decoded(encoded(cmyk, "JPEG")).getpixel((8, 8))  # type: ignore[misc]
    assert red > 200
    assert max(green, blue) < 60


def test_sixteen_bits_are_cut_to_eight() -> None:
    grey = Image.fromarray(np.full((8, 8), 0x80FF, np.uint16))
    assert decoded(encoded(grey)).getpixel((0, 0)) == (128, 128, 128)


def test_what_is_transparent_is_white() -> None:
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    half.paste((0, 0, 0, 0), (4, 0, 8, 8))
    seen = decoded(encoded(half))
    assert [seen.getpixel((x, 0)) for x in (0, 7)] == [(255, 0, 0), (255, 255, 255)]
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 255, 0, 255, 0])
    palette.putpixel((7, 0), 1)
    seen = decoded(encoded(palette, "GIF", transparency=1))
    assert [seen.getpixel((x, 0)) for x in (0, 7)] == [(0, 0, 255), (255, 255, 255)]


def test_the_first_frame_of_a_film_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decoded(data).getpixel((0, 0)) == (255, 0, 0)


def test_pictures_are_turned_as_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 40, 4))
    data = encoded(image, "PNG", exif=exif)
    assert measure(io.BytesIO(data)) == (40, 20)
    seen = decoded(data)
    assert seen.size == (20, 40)
    assert seen.getpixel((19, 20)) == (255, 255, 255)


def test_exif_behind_the_pixels_turns_the_picture_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    late = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    plain = encoded(picture(0, 40, 20))
    data = plain[:-12] + late + plain[-12:]
    assert decoded(data).size == (20, 40)
    records = [Drawn(f"{i}", data, {"caption": "turned"}) for i in range(3)]
    collection = open_collection(str(write_folder(tmp_path / "data", records)), {})
    batch = PictureStream(collection, (View(32),)).batch(0, 2)
    assert batch.time_ids[:, :2].tolist() == [[40, 20]] * 2


def test_a_large_jpeg_is_decoded_no_larger_than_needed() -> None:
    data = encoded(picture(0, 640, 480), "JPEG")
    assert decode(io.BytesIO(data), least=100).size == (160, 120)
    assert decode(io.BytesIO(data)).size == (640, 480)


def folder_with_faults(folder: Path) -> Path:
    """12 good pictures, 2 that turn out truncated, and one of each other fault."""
    write_folder(folder, drawn(12))
    wordless = [Drawn(name, encoded(NOISE)) for name in ("mute", "blank", "latin", "list", "json")]
    tiny = Drawn("tiny", encoded(picture(0, 20, 15)), {"caption": "tiny"})
    short = encoded(NOISE)[:5000]
    broken = [Drawn(f"cut{i}", short, {"caption": "cut"}) for i in range(2)]
    html = Drawn("html", b"<html>", {"caption": "a page"})
    write_folder(folder, [tiny, *broken, html])
    write_folder(folder, wordless, "none")
    (folder / "blank.txt").write_text(" \n")
    (folder / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    (folder / "list.json").write_text(json.dumps(["a", "b"]))
    (folder / "json.json").write_text("{")
    return folder


def test_bad_records_are_counted_listed_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        collection = open_collection(str(folder_with_faults(tmp_path / "data")), {}, min_size=30)
    reasons = {bad.key: bad.reason for bad in collection.bad}
    assert reasons["tiny"] == "too small: 20x15, needs 30x30"
    assert reasons["mute"] == reasons["blank"] == "no caption"
    assert reasons["latin"] == "caption is not UTF-8: byte 3"
    assert reasons["list"] == "caption is not JSON: an object, but list"
    assert reasons["json"].startswith("caption is not JSON: Expecting")
    assert reasons["html"].startswith("not a picture")
    assert len(reasons) == 7
    assert "left out 7 of 21 pictures: " in caplog.text
    assert "2 no caption" in caplog.text
    listed = Path(caplog.text.partition("listed in ")[2].strip())
    assert "latin: caption is not UTF-8: byte 3" in listed.read_text().splitlines()


def collected(folder: Path, held_out: float = 0.02) -> Collection:
    return open_collection(str(folder), {}, min_size=30, held_out=held_out)


def test_a_picture_that_cannot_be_decoded_is_replaced_the_same_way_each_time(
    tmp_path: Path,
) -> None:
    collection = collected(folder_with_faults(tmp_path / "data"))
    told: list[str] = []
    stream = PictureStream(collection, (View(32),), report=lambda bad: told.append(bad.key))
    batches = [stream.batch(step, 4) for step in range(8)]
    assert "cut" not in {caption for batch in batches for caption in batch.captions}
    assert sorted(told) == sorted(stream.bad) == ["cut0", "cut1"]  # each told once
    assert {bad.reason for bad in stream.bad.values()} == {"truncated"}
    fresh = PictureStream(collection, (View(32),), report=lambda bad: None)
    for step in (5, 2):
        again = fresh.batch(step, 4)
        assert torch.equal(again.x, batches[step].x)
        assert again.captions == batches[step].captions


def test_nothing_but_bad_pictures_is_an_error(tmp_path: Path) -> None:
    short = encoded(NOISE)[:5000]
    cut = [Drawn(f"{i}", short, {"caption": "cut"}) for i in range(4)]
    collection = open_collection(str(write_folder(tmp_path / "cut", cut)), {})
    with pytest.raises(RelayError, match=r"20 pictures in a row .* \(truncated\); check"):
        PictureStream(collection, (View(32),)).batch(0, 2)
    small = drawn(3)
    with pytest.raises(RelayError, match=r"0 of 3 pictures can be used, .*: 3 too small; docs"):
        open_collection(str(write_folder(tmp_path / "small", small)), {}, min_size=512)
