"""``relay generate --image``: a picture started from another one, and made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relay_diffusion.cli import main
from relay_diffusion.pipelines.metadata import read_parameters

FOX = ("a red fox", "--seed", 7)


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    path = tmp_path / "drawing.png"
    Image.linear_gradient("L").convert("RGB").resize((40, 40)).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_it_is_kept_in_part_recorded_and_made_again(generate, drawing: Path) -> None:
    plain = generate(*FOX)
    started = generate(*FOX, "--image", drawing, "--strength", 0.5)
    used = read_parameters(started)
    assert used.image is not None and (used.image.path, used.strength) == (str(drawing), 0.5)
    assert "Denoising strength: 0.5" in Image.open(started).text["parameters"]
    assert (pixels(plain) != pixels(started)).any()
    assert (pixels(generate("--from", started)) == pixels(started)).all()
    assert (pixels(generate("--from", started, "--strength", 1)) != pixels(started)).any()
    assert read_parameters(plain).image is read_parameters(plain).strength is None


def test_a_picture_that_has_changed_is_noticed(
    generate, drawing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = generate(*FOX, "--image", drawing)
    assert read_parameters(started).strength == 0.6
    Image.new("RGB", (40, 40), "red").save(drawing)
    assert main(["generate", "--from", str(started), "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the picture {drawing} has changed" in line
    generate("--from", started, "--image", drawing)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--strength", "0.5"], "--strength goes with --image"),
        (["--image", "nowhere.png"], "there is no picture nowhere.png"),
        (["--image", "DRAWING", "--strength", "1.5"], "strength 1.5; allowed is above 0"),
    ],
)
def test_what_cannot_be_is_one_line(
    options: list[str],
    said: str,
    drawing: Path,
    cascade_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [str(drawing) if one == "DRAWING" else one for one in options]
    args = ["generate", "a red fox", "--model", str(cascade_folder), "--out", str(tmp_path)]
    assert main([*args, *options]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
