from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.arena.entries import read_entries
from relay_diffusion.evaluation.arena.pairs import make_pairs
from relay_diffusion.evaluation.arena.votes import VoteStore
from tests.evaluation.arena.making import plain_folder, relay_folder


def test_pictures_meet_by_the_prompt_that_relay_wrote_in_the_order_of_seeds(tmp_path: Path) -> None:
    ours = relay_folder(tmp_path / "ours", ["a fox", "two owls"], seeds=[10, 9])
    theirs = relay_folder(tmp_path / "theirs", ["two  owls", "a fox"], seeds=[4, 5])
    pairs, notes = make_pairs(read_entries([ours, theirs]))
    assert not notes
    met = {(p.prompt, p.number): [picture.path.name for picture in p.pictures] for p in pairs}
    assert met == {
        ("a fox", 0): ["0000-seed-9.png", "0001-seed-4.png"],
        ("a fox", 1): ["0000-seed-10.png", "0001-seed-5.png"],
        ("two owls", 0): ["0001-seed-9.png", "0000-seed-4.png"],
        ("two owls", 1): ["0001-seed-10.png", "0000-seed-5.png"],
    }


def test_other_pictures_meet_by_their_names(tmp_path: Path) -> None:
    one = plain_folder(tmp_path / "one", ["red-fox.png", "picture 10.jpg", "picture 2.jpg"])
    two = plain_folder(tmp_path / "two", ["red_fox.webp", "picture 2.png", "picture 10.png"])
    (two / "notes.txt").write_text("no picture")
    plain_folder(two, [".hidden.png"])
    pairs, notes = make_pairs(read_entries([one, two]))
    assert [pair.prompt for pair in pairs] == ["picture 2", "picture 10", "red fox"]
    assert not notes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prompts.txt", "0.png\ta fox\n\n1\ttwo owls\n"),
        (
            "prompts.jsonl",
            '{"file": "0", "prompt": "a fox"}\n{"file": "1.png", "prompt": "two owls"}',
        ),
    ],
)
def test_a_text_file_says_what_pictures_show(tmp_path: Path, name: str, text: str) -> None:
    ours = relay_folder(tmp_path / "ours", ["a fox", "two owls"])
    theirs = plain_folder(tmp_path / "theirs", ["0.png", "1.png"])
    (theirs / name).write_text(text)
    pairs, notes = make_pairs(read_entries([ours, theirs]))
    assert [(p.prompt, p.pictures[1].path.name) for p in pairs] == [
        ("a fox", "0.png"),
        ("two owls", "1.png"),
    ]
    assert not notes


def test_names_and_prompts_that_utf8_cannot_hold_are_escaped(tmp_path: Path) -> None:
    """SQLite would refuse them."""
    odd = os.fsdecode(b"caf\xe9")
    folders = [plain_folder(tmp_path / name, ["0.png"]) for name in ("one", odd)]
    for folder in folders:
        try:
            (folder / "0.png").rename(folder / f"{odd}.png")
        except OSError:
            pytest.skip("this file system takes no such name")
    store = VoteStore(tmp_path / "votes.sqlite")
    store.register(make_pairs(read_entries(folders))[0])
    assert store.models() == ["one", "caf\\udce9"]
    for folder in folders:
        (folder / "prompts.jsonl").write_text(
            json.dumps({"file": "0", "prompt": "a \ud800"}) + "\n"
        )
        (folder / f"{odd}.png").rename(folder / "0.png")
    (pair,) = make_pairs(read_entries(folders))[0]
    assert pair.prompt == "a \\ud800"


def test_a_line_of_texts_ends_where_lines_end(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.write_text("0\ta fox\u2028in snow\n", encoding="utf-8")
    folders = [plain_folder(tmp_path / name, ["0.png"]) for name in ("one", "two")]
    (pair,) = make_pairs(read_entries(folders, texts))[0]
    assert pair.prompt == "a fox in snow"


def test_one_text_file_may_serve_all_folders(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.write_text("0\ta fox\n1\ta fox\n")
    folders = [plain_folder(tmp_path / name, ["0.png", "1.png"]) for name in ("one", "two")]
    pairs, _ = make_pairs(read_entries(folders, texts))
    assert [(pair.prompt, pair.number) for pair in pairs] == [("a fox", 0), ("a fox", 1)]


def test_missing_and_unlike_pictures_are_told_in_a_line_each(tmp_path: Path) -> None:
    ours = relay_folder(tmp_path / "ours", ["a fox", "an owl", "a pear", "a key"], seeds=[0, 1])
    theirs = relay_folder(tmp_path / "theirs", ["a fox"], seeds=[0])
    relay_folder(theirs, ["a fox", "a drum"], seeds=[0])
    Image.new("RGB", (16, 8)).save(ours / "0099-grid-of-8.png")
    narrow = plain_folder(tmp_path / "narrow", ["a fox.png"], size=(4, 8))
    pairs, notes = make_pairs(read_entries([ours, theirs, narrow]))
    assert [pair.models for pair in pairs] == [
        ("ours", "theirs"),
        ("ours", "narrow"),
        ("theirs", "narrow"),
    ]
    assert notes == [
        "ours: without a prompt, left out: 0099-grid-of-8.png",
        "ours has, theirs has not, skipped: 1 more of 'a fox'; an owl; a pear; and 1 more",
        "theirs has, ours has not, skipped: a drum",
        "ours has, narrow has not, skipped: 1 more of 'a fox'; an owl; a pear; and 1 more",
        "theirs has, narrow has not, skipped: a drum",
        "2 of 3 pairs differ in size: shown at the same height",
    ]


def test_a_model_is_called_the_same_whatever_it_is_compared_with(tmp_path: Path) -> None:
    """Its votes would not be found again otherwise."""
    one, two = (plain_folder(tmp_path / name / "out", ["a.png"]) for name in ("one", "two"))
    other = plain_folder(tmp_path / "other", ["a.png"])
    assert [entry.model for entry in read_entries([one, other])] == ["out", "other"]
    with pytest.raises(
        RelayError, match=r"would be called 'out': name them, as in A=.*/one/out B="
    ):
        read_entries([one, other, two])
    named = [f"first={one}", other, f"my model={two}"]
    assert [entry.model for entry in read_entries(named)] == ["first", "other", "my model"]


def test_a_link_is_called_as_it_is_and_a_folder_may_have_an_equals_sign(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "2026-01-01", ["a.png"])
    (tmp_path / "latest").symlink_to(folder)
    odd = plain_folder(tmp_path / "steps=8", ["a.png"])
    entries = read_entries([tmp_path / "latest", f"{odd}/."])
    assert [entry.model for entry in entries] == ["latest", "steps=8"]


def test_a_picture_on_its_side_counts_as_it_is_shown(tmp_path: Path) -> None:
    folders = [plain_folder(tmp_path / name, ["a.jpg"], size=(4, 8)) for name in ("one", "two")]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(folders[0] / "a.jpg", exif=exif)
    pairs, notes = make_pairs(read_entries(folders))
    assert [(picture.width, picture.height) for picture in pairs[0].pictures] == [(4, 8), (4, 8)]
    assert not notes


def test_a_picture_whose_pixels_are_cut_off_is_named(tmp_path: Path) -> None:
    """Its header is whole: only decoding shows it."""
    folders = [plain_folder(tmp_path / name, ["a fox.png"]) for name in ("one", "two")]
    for suffix in ("jpg", "webp"):
        file = folders[0] / f"an owl.{suffix}"
        Image.effect_noise((64, 64), 90).convert("RGB").save(file)
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RelayError, match=rf"an owl\.{suffix} cannot .* remove it or make it"):
            read_entries(folders)
        file.unlink()


def test_bad_folders_are_errors_that_say_what_to_do(tmp_path: Path) -> None:
    good = plain_folder(tmp_path / "good", ["a fox.png"])
    other = plain_folder(tmp_path / "other", ["an owl.png"])
    empty = plain_folder(tmp_path / "empty", [])
    broken = plain_folder(tmp_path / "broken", ["a fox.png"], size=(64, 64))
    cut = (broken / "a fox.png").read_bytes()
    (broken / "a fox.png").write_bytes(cut[: len(cut) // 2])
    for folders, complaint in [
        ([], "no folders of pictures: name two or more"),
        ([good], "1 folder of pictures: name two or more"),
        ([good, tmp_path / "nothing"], "nothing is no folder"),
        ([good, good.parent / "other" / ".." / "good"], "given twice"),
        ([good, empty], "empty holds no pictures"),
        ([good, broken], "cannot be read as a picture.*remove it or make it again"),
        ([good, other], r"no prompt in common \(a fox here, an owl there\).*prompts.jsonl"),
    ]:
        with pytest.raises(RelayError, match=complaint):
            make_pairs(read_entries(folders))


@pytest.mark.parametrize("line", ["a fox", "\ta fox", "0\t "])
def test_a_bad_line_of_prompts_is_named(tmp_path: Path, line: str) -> None:
    folders = [plain_folder(tmp_path / name, ["0.png"]) for name in ("one", "two")]
    (folders[0] / "prompts.txt").write_text(f"0\tan owl\n{line}\n")
    with pytest.raises(RelayError, match=r"prompts.txt, line 2: a line is NAME, tab, TEXT"):
        read_entries(folders)


@pytest.mark.parametrize("line", ["{broken", "[1]", '{"file": 3, "prompt": "a fox"}', "{}"])
def test_a_bad_line_of_json_is_named(tmp_path: Path, line: str) -> None:
    folders = [plain_folder(tmp_path / name, ["0.png"]) for name in ("one", "two")]
    (tmp_path / "p.jsonl").write_text(line)
    with pytest.raises(RelayError, match=r'p.jsonl, line 1: a line is \{"file": NAME'):
        read_entries(folders, tmp_path / "p.jsonl")


def test_a_missing_list_of_prompts_is_an_error(tmp_path: Path) -> None:
    folders = [plain_folder(tmp_path / name, ["0.png"]) for name in ("one", "two")]
    with pytest.raises(RelayError, match="cannot be read as a list of prompts"):
        read_entries(folders, tmp_path / "nothing.txt")
