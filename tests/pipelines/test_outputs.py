"""The names that pictures get."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from relay_diffusion.pipelines.metadata import save_picture
from relay_diffusion.pipelines.outputs import PictureFolder

PICTURE = Image.new("RGB", (8, 8))


def save(folder: PictureFolder, words: str, end: str = "") -> str:
    with folder.next(words, end) as path:
        save_picture(PICTURE, path, {}, "")
    return path.name


def test_two_processes_in_one_folder_do_not_overwrite_each_other(tmp_path: Path) -> None:
    one, other = PictureFolder(tmp_path), PictureFolder(tmp_path)
    with one.next("a fox") as a, other.next("a fox") as b:
        assert a != b
    assert save(one, "a fox") == "0003-a-fox.png"


def test_a_picture_that_was_not_written_leaves_no_empty_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), PictureFolder(tmp_path).next("a fox"):
        raise OSError("disk full")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("\U0001d51e" * 60, "\U0001d51e" * 30),
        ("狐狸 " * 30, "-".join(["狐狸"] * 17)),
        ("ё" * 99, "ё" * 60),
    ],
    ids=["4 bytes", "3 bytes", "2 bytes"],
)
def test_a_name_has_room_for_long_prompts_of_any_letters(
    tmp_path: Path, words: str, kept: str
) -> None:
    name = save(PictureFolder(tmp_path), words, f"seed {2**63 - 1}")
    assert name == f"0001-{kept}-seed-{2**63 - 1}.png"


def test_a_prompt_without_a_letter_leaves_the_rest_of_the_name(tmp_path: Path) -> None:
    assert save(PictureFolder(tmp_path), "?!", "seed 1") == "0001-seed-1.png"
