from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from relay_diffusion.cli import main


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with one drawing."""
    from relay_diffusion.data.scenes.atlas import build_atlas

    pytest.importorskip("resvg_py")
    folder = tmp_path_factory.mktemp("drawings")
    circle = '<circle cx="8" cy="8" r="6" fill="green"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{circle}</svg>'
    (folder / "dragon.svg").write_text(svg)
    build_atlas(folder, folder / "atlas.tar", ["dragon"])
    return folder / "atlas.tar"


def test_a_folder_has_pictures_with_captions_that_name_subject_and_style(
    atlas: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "dragon"
    arguments = ["scenes", "--pictures", str(folder), "--atlas", str(atlas), "--num", "5"]
    assert main([*arguments, "--size", "64"]) == 0
    pictures, captions = sorted(folder.glob("*.png")), sorted(folder.glob("*.txt"))
    assert [one.stem for one in pictures] == [one.stem for one in captions]
    assert len(pictures) == 5
    assert len({Image.open(one).tobytes() for one in pictures}) == 5
    assert Image.open(pictures[0]).size == (64, 64)
    assert all("dragon" in one.read_text() and "watercol" in one.read_text() for one in captions)
    capsys.readouterr()
    for wrong, message in (
        ([], f"{folder} exists already"),
        (["--subject", "dragn"], "no subject 'dragn' in the world, the nearest is 'dragon'"),
        (["--style", "water"], "no style 'water' in the world"),
    ):
        assert main([*arguments, *wrong]) == 2
        assert message in capsys.readouterr().err
