"""The relay's own guidance scale from the command line, and in the pictures that it makes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from relay_diffusion.cli import main
from relay_diffusion.models.folder import read_index
from relay_diffusion.pipelines.metadata import read_parameters, read_record, save_picture


def set_default(folder: Path, scale: float) -> None:
    index = {**read_index(folder), "relay_guidance_scale": scale}
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.fixture
def own(cascade_folder: Path, tmp_path: Path) -> Path:
    """A cascade at guidance 7.5 whose relay runs at 2."""
    folder = Path(shutil.copytree(cascade_folder, tmp_path / "own"))
    set_default(folder, 2.0)
    return folder


@pytest.fixture
def generate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One picture of the command, its path."""

    def run(*arguments: object) -> Path:
        args = [str(one) for one in ("generate", *arguments, "--out", tmp_path, "--device", "cpu")]
        assert main(args) == 0
        return Path(capsys.readouterr().out.strip())

    return run


def scales(picture: Path) -> tuple[float, float | None]:
    made = read_parameters(picture)
    return made.guidance_scale, made.relay_guidance_scale


def pixels(picture: Path) -> bytes:
    return Image.open(picture).tobytes()


def test_it_is_recorded_and_made_again(generate, own: Path) -> None:
    first = generate("a red fox", "--model", own, "--relay-guidance", 4, "--seed", 3)
    assert scales(first) == (7.5, 4.0)
    assert generate("--from", first).read_bytes() == first.read_bytes()
    assert scales(generate("--from", first, "--guidance", 3)) == (3.0, 4.0)
    other = generate("--from", first, "--relay-guidance", 9)
    assert scales(other) == (7.5, 9.0) and pixels(other) != pixels(first)
    assert scales(generate("a red fox", "--model", own, "--guidance", 3)) == (3.0, 2.0)
    alike = generate("a red fox", "--model", own, "--guidance", 2)  # by chance
    assert scales(generate("--from", alike, "--guidance", 3)) == (3.0, 2.0)


@pytest.mark.slow
def test_a_picture_of_one_scale_for_both_stays_one(
    generate, cascade_folder: Path, tmp_path: Path
) -> None:
    """Also from before the relay's was kept, and where the cascade has since got one."""
    folder = Path(shutil.copytree(cascade_folder, tmp_path / "later"))
    first = generate("a red fox", "--model", folder, "--guidance", 3, "--seed", 3)
    assert scales(first) == (3.0, 3.0)
    record: dict[str, Any] = read_record(first) or {}
    del record["relay_guidance_scale"]
    old = tmp_path / "old.png"
    save_picture(Image.open(first), old, record, "")
    set_default(folder, 2.0)
    again = generate("--from", old)
    assert scales(again) == (3.0, 3.0) and pixels(again) == pixels(first)
    assert pixels(generate("a red fox", "--model", folder, "--guidance", 3, "--seed", 3)) != pixels(
        first
    )
    for made in (old, first):
        assert scales(generate("--from", made, "--guidance", 4)) == (4.0, 4.0)
        assert scales(generate("--from", made, "--relay-guidance", 4)) == (3.0, 4.0)


def test_another_model_has_its_own(generate, own: Path, cascade_folder: Path) -> None:
    first = generate("a red fox", "--model", cascade_folder, "--guidance", 3)
    assert scales(generate("--from", first, "--model", own)) == (7.5, 2.0)
    assert scales(generate("--from", first, "--model", own, "--guidance", 4)) == (4.0, 2.0)


def test_upscaling_is_at_the_relays_scale(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (16, 16), "teal").save(tmp_path / "photo.png")
    arguments = ["upscale", str(tmp_path / "photo.png"), "--model", str(own), "--device", "cpu"]

    def upscaled(*options: str) -> tuple[float, bytes]:
        made = [*arguments, *options, "--prompt", "a fox", "--seed", "3", "--out", str(tmp_path)]
        assert main(made) == 0
        path = Path(capsys.readouterr().out.strip())
        return (read_record(path) or {})["guidance_scale"], pixels(path)

    default = upscaled()
    assert default[0] == 2.0 and upscaled("--guidance", "2") == default
    other = upscaled("--guidance", "4")
    assert other[0] == 4.0 and other[1] != default[1]


def test_a_cascade_is_assembled_with_it(
    cascade_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [f"--{part}={cascade_folder}" for part in ("base", "relay", "shares")]
    made = ["assemble", str(tmp_path / "made"), *parts, "--set", "relay_guidance_scale=2"]
    assert main(made) == 0
    assert read_index(tmp_path / "made")["relay_guidance_scale"] == 2.0
    wrong = ["assemble", str(tmp_path / "wrong"), *parts, "--set", "relay_guidance_scale=-2"]
    assert main(wrong) == 2
    assert "relay guidance -2" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()


def test_a_wrong_one_is_one_line(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "a fox", "--model", str(own), "--relay-guidance", "-1"]
    assert main([*arguments, "--device", "cpu", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "relay guidance -1.0; give a number of 0 or more" in line
