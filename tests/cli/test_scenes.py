"""``relay scenes`` into places that cannot be written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from relay_diffusion.cli import main
from relay_diffusion.data.scenes.atlas import Atlas
from relay_diffusion.data.scenes.world import World
from tests.data.shapes import shapes_atlas


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """Below a file."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "below"


@pytest.mark.parametrize("option", ["--sheet", "--pictures"])
def test_pictures_are_refused_in_one_line(
    option: str,
    nowhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(path: Path, subjects: Iterable[str]) -> Atlas:
        return shapes_atlas(list(subjects))

    monkeypatch.setattr(Atlas, "load", load)
    place = nowhere / "sheet.png"
    arguments = ["--world", "small", "--num", "2", "--size", "32", option, str(place)]
    assert main(["scenes", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{place} cannot be written: " in line


def test_an_atlas_is_refused_in_one_line(
    nowhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("resvg_py")
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"></svg>'
    for subject in World.full().subjects:
        (tmp_path / f"{subject}.svg").write_text(svg)
    place = nowhere / "atlas.tar"
    arguments = ["--build-atlas", "--drawings", str(tmp_path), "--atlas", str(place)]
    assert main(["scenes", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{place} cannot be written: " in line


@pytest.mark.parametrize(
    ("option", "place", "message"),
    [
        ("--sheet", "sheet.nonsense", "unknown file extension: .nonsense; name a .png"),
        ("--pictures", "pictures", "relay: there is no subject 'nonsense' in the world"),
    ],
)
def test_what_is_no_fault_of_the_place_is_not_blamed_on_it(
    option: str,
    place: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Atlas, "load", lambda path, subjects: shapes_atlas(list(subjects)))
    arguments = ["--world", "small", "--num", "2", "--size", "32", "--subject", "nonsense"]
    assert main(["scenes", *arguments, option, str(tmp_path / place)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / place).exists()
