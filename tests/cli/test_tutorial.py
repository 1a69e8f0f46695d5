"""The first part of docs/training.md, command by command as it is printed, at tiny size."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from relay_diffusion.cli import main
from relay_diffusion.data.scenes.atlas import build_atlas
from tests.chat_server import serving

ROOT = Path(__file__).parents[2]
TINY = [
    "run.steps=2",
    "data.batch_size=2",
    "validation.num_pictures=2",
    "preview.num_pictures=2",
    "preview.num_steps=2",
    "run.num_threads=0",
]
CAPTION = (
    "a green dragon with a long tail stands in the middle of a wide and empty green meadow " * 2
)


def commands() -> list[list[str]]:
    text = (ROOT / "docs" / "training.md").read_text()
    first = text[: text.index("## Stopping")]
    return [shlex.split(line.strip()) for line in re.findall(r"^    (relay .+)$", first, re.M)]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recipes, and an atlas whose one drawing is the tutorial's subject."""
    pytest.importorskip("resvg_py")
    circle = '<circle cx="8" cy="8" r="6" fill="green"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{circle}</svg>'
    (tmp_path / "dragon.svg").write_text(svg)
    (tmp_path / "runs").mkdir()
    build_atlas(tmp_path, tmp_path / "runs" / "atlas.tar", ["dragon"])
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_tutorial_ends_in_a_picture_of_a_cascade_of_ones_own(workplace: Path) -> None:
    printed = commands()
    assert [command[1] for command in printed] == [
        *("scenes", "recaption", "prepare", "prepare", "train", "train", "assemble", "generate")
    ]
    with serving(CAPTION) as server:
        for command in printed:
            arguments = command[1:]
            if arguments[0] == "scenes":
                arguments += ["--num", "9", "--size", "96"]
            if arguments[0] == "recaption":
                arguments[arguments.index("--base-url") + 1] = server.url
            if arguments[0] == "train":
                arguments += [part for value in TINY for part in ("--set", value)]
            if arguments[0] == "generate":
                arguments += ["--steps", "2", "--relay-steps", "1"]
            assert main(arguments) == 0, shlex.join(command)
    assert "tail" in (workplace / "my-pictures" / "captions.jsonl").read_text()
    log = (workplace / "runs" / "folder_relay" / "log.jsonl").read_text()
    assert "validation/loss" in log
    assert list((workplace / "pictures").glob("*.png"))
