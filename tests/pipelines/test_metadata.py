from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from relay_diffusion.errors import RelayError
from relay_diffusion.pipelines.metadata import (
    Parameters,
    read_parameters,
    read_record,
    save_picture,
)

PARAMETERS = Parameters(
    prompt="ein Fuchs, 狐狸, «лиса»",
    negative_prompt="blur\nnoise",
    model="starter",
    seed=2**63 - 1,
    width=64,
    height=32,
    num_inference_steps=50,
    num_relay_steps=10,
    guidance_scale=7.5,
    solver="euler",
    eta=0.1,
    dtype="float32",
    low_memory=False,
    version="0.1.0",
    relay_guidance_scale=2.0,
)


def test_parameters_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    image = Image.new("RGB", (64, 32), "red")
    save_picture(image, path, asdict(PARAMETERS), PARAMETERS.to_text())
    assert read_parameters(path) == PARAMETERS
    with Image.open(path) as saved:
        assert saved.tobytes() == image.tobytes()
        readable = saved.text["parameters"]
    assert readable.startswith("ein Fuchs, 狐狸, «лиса»\nNegative prompt: blur")
    assert "CFG scale: 7.5, Relay CFG scale: 2, Seed" in readable
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("kept", [{}, {"relay_guidance_scale": None}])
def test_before_the_relay_had_a_scale_of_its_own_there_was_one_for_both(
    tmp_path: Path, kept: dict[str, None]
) -> None:
    record = {**asdict(PARAMETERS), **kept}
    if not kept:
        del record["relay_guidance_scale"]
    save_picture(Image.new("RGB", (4, 4)), tmp_path / "picture.png", record, "")
    read = read_parameters(tmp_path / "picture.png")
    assert read.relay_guidance_scale == read.guidance_scale == 7.5
    assert "CFG scale: 7.5, Seed" in read.to_text()


def test_a_picture_that_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    class Full(Image.Image):
        def save(self, fp: Path, *args: object, **kwargs: object) -> None:
            fp.write_bytes(b"half")
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        save_picture(Full(), tmp_path / "picture.png", {}, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "does not say how it was made: .*, not a grid of several"),
        ("{broken", "parameters are damaged"),
        ("[1, 2]", "parameters are damaged"),
        ('{"prompt": "a fox"}', "negative_prompt, model, seed"),
        ('{"upscaled": "fox.jpg"}', "made by relay upscale"),
        ('{"grid": 6}', "is a grid of 6 pictures and .* of none: give one of the pictures"),
        (json.dumps({**asdict(PARAMETERS), "width": "wide"}), "width is no int"),
    ],
)
def test_a_picture_that_cannot_be_made_again_says_why(
    tmp_path: Path, text: str | None, complaint: str
) -> None:
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_itxt("relay", text)
    path = tmp_path / "picture.png"
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    with pytest.raises(RelayError, match=complaint):
        read_parameters(path)


def test_other_pictures_have_no_record(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.jpg")
    assert read_record(tmp_path / "picture.jpg") is None
