from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from relay_diffusion.cli import main
from relay_diffusion.cli.texts import read_prompts
from relay_diffusion.files import sha256_of
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.metadata import read_parameters, read_record


@pytest.fixture
def generate(cascade_folder: Path, capsys: pytest.CaptureFixture[str]):
    """Run ``relay generate`` with the tiny cascade; gives the paths that it prints."""

    def run(*arguments: object, model: bool = True) -> list[Path]:
        args = ["generate", *map(str, arguments), "--device", "cpu"]
        assert main([*args, "--model", str(cascade_folder)] if model else args) == 0
        return [Path(line) for line in capsys.readouterr().out.splitlines()]

    return run


@pytest.fixture
def refused(cascade_folder: Path, capsys: pytest.CaptureFixture[str]):
    """Run a command that must fail; gives its one line."""

    def run(*arguments: object) -> str:
        assert main([*map(str, arguments), "--model", str(cascade_folder), "--device", "cpu"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return run


def test_a_picture_is_made_again_bit_for_bit_from_its_file(generate, tmp_path: Path) -> None:
    first = generate(
        "a red fox", "a blue mushroom", "--num", 2, "--seed", 40, "--eta", 0.3, "--steps", 4,
        "--negative", "art", "--guidance", 3, "--size", "64x128", "--out", tmp_path / "once",
    )  # fmt: skip
    (again,) = generate("--from", first[3], "--out", tmp_path / "again", model=False)
    assert again.read_bytes() == first[3].read_bytes()
    assert read_parameters(again).seed == 41
    assert Image.open(again).size == (64, 128)


def test_other_options_change_the_picture_it_is_made_from(generate, tmp_path: Path) -> None:
    (first,) = generate("a red fox", "--seed", 3, "--out", tmp_path)
    (larger,) = generate("--from", first, "--size", 128, "--out", tmp_path, model=False)
    before, after = read_parameters(first), read_parameters(larger)
    assert (after.prompt, after.seed, after.width) == (before.prompt, 3, 128)


def test_names_sort_as_made_and_say_prompt_and_seed(generate, tmp_path: Path) -> None:
    generate("a red fox, pixel art", "--seed", 7, "--num", 2, "--out", tmp_path)
    generate("a blue fox", "--seed", 7, "--out", tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "0001-a-red-fox-pixel-art-seed-7.png",
        "0002-a-red-fox-pixel-art-seed-8.png",
        "0003-grid-of-2.png",
        "0004-a-blue-fox-seed-7.png",
    ]


def test_several_pictures_come_with_a_grid(generate, refused, tmp_path: Path) -> None:
    *pictures, grid = generate("a", "a fox", "--num", 3, "--seed", 0, "--out", tmp_path)
    assert len(pictures) == 6
    sheet = Image.open(grid)
    assert sheet.size == (3 * 64 + 2 * 2, 2 * 64 + 2)  # a row for each prompt
    fifth = sheet.crop((66, 66, 130, 130))
    assert fifth.tobytes() == Image.open(pictures[4]).tobytes()
    assert f"{grid} is a grid of 6 pictures" in refused("generate", "--from", grid)


def test_prompts_come_from_a_file_or_standard_input(
    generate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompts.txt").write_text("a red fox\n\n  a blue fox \n")
    made = generate("--prompts", tmp_path / "prompts.txt", "--out", tmp_path / "file")
    assert [read_parameters(path).prompt for path in made[:2]] == ["a red fox", "a blue fox"]
    for arguments in (["-"], ["--prompts", "-"]):
        monkeypatch.setattr("sys.stdin", io.StringIO("a mushroom\n"))
        (path,) = generate(*arguments, "--out", tmp_path / "stdin")
        assert read_parameters(path).prompt == "a mushroom"


def test_low_memory_makes_nearly_the_same_picture(generate, tmp_path: Path) -> None:
    paths = generate("a red fox", "--seed", 1, "--out", tmp_path)
    paths += generate("a red fox", "--seed", 1, "--low-memory", "--out", tmp_path)
    assert len({Image.open(path).tobytes() for path in paths}) == 1  # small enough for one tile
    assert read_parameters(paths[1]).low_memory


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["generate"], "no prompt"),
        (["generate", " "], "a prompt is empty"),
        (["generate", "a", "--size", "large"], "size 'large'; give a side"),
        (["generate", "a", "--size", "100"], "nearest that can are"),
        (["generate", "a", "--dtype", "int8"], "dtype 'int8'; allowed is auto, float32"),
        (["generate", "a", "--from", "none.png"], "there is no picture none.png"),
        (["generate", "--prompts", "none.txt"], "none.txt cannot be read"),
        (["generate", "a", "--steps", "0"], "0 steps"),
        (["generate", "a", "--seed", str(2**63)], "'--seed': Input should be less than or equal"),
        (["generate", "a", "--seed", str(2**63 - 1), "--num", "2"], "goes past the last seed"),
        (["upscale", "none.png"], "there is no picture none.png"),
    ],
)
def test_wrong_input_is_answered_in_one_line(
    refused, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    assert complaint in refused(*arguments, "--out", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--steps", "0"], "0 steps"),
        (["--size", "100"], "nearest that can are"),
        (["--guidance", "-1"], "guidance -1"),
        (["--image", "IMAGE", "--strength", "1.5"], "strength 1.5; allowed is above 0"),
    ],
)
def test_nothing_is_asked_or_opened_for_what_is_refused(
    refused,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    complaint: str,
) -> None:
    for name in ("open_expansion", "open_with_texts"):
        monkeypatch.setattr(f"relay_diffusion.pipelines.opening.{name}", None)
    image = tmp_path / "image.png"
    Image.new("RGB", (8, 8)).save(image)
    arguments = [str(image) if one == "IMAGE" else one for one in arguments]
    options = ["--expander", "openai", "--out", tmp_path / "out"]
    assert complaint in refused("generate", "a fox", *arguments, *options)


def test_a_folder_that_is_no_cascade_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "a fox", "--model", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "model_index.json" in capsys.readouterr().err


def test_a_cascade_with_a_tensor_too_many_is_one_line(
    cascade_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(cascade_folder, tmp_path / "copy"))
    (file,) = (copy / "vae").glob("*.safetensors")
    save_file({**load_file(file), "spare": torch.zeros(1)}, file, {"format": "pt"})
    arguments = ["generate", "a fox", "--model", str(copy), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--device", "cpu"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert str(file) in line and "left over: spare" in line


@pytest.mark.parametrize("options", [[], ["--low-memory"], ["--expand"]])
def test_a_cascade_without_a_tokenizer_says_what_to_do(
    cascade_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    copy = Path(shutil.copytree(cascade_folder, tmp_path / "copy"))
    shutil.rmtree(copy / "tokenizer")
    index = json.loads((copy / "model_index.json").read_text())
    index |= {"tokenizer": [None, None], "expander": "scenes", "world": "small"}
    (copy / "model_index.json").write_text(json.dumps(index))
    arguments = ["generate", "a fox", "--model", str(copy), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--device", "cpu", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "this cascade has no tokenizer, or was opened without it: convert it again" in line


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("generate", ["--steps", "--relay-steps", "--guidance", "--solver"]),
        ("upscale", ["--strength", "--relay-steps", "--guidance", "--solver"]),
    ],
)
def test_help_says_whose_the_defaults_are(
    command: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    for option in options:
        assert (
            "(default: the cascade's own)" in re.search(rf" {option} (?:(?! --).)*?\)", words)[0]
        ), option
    assert "A name of relay models, a folder, or a hub id." in words


def test_a_file_where_the_folder_should_be_is_one_line(refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be a folder" in refused("generate", "a fox", "--out", tmp_path / "file")


def test_a_picture_of_odd_size_is_upscaled(
    generate, cascade_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "photo.jpg"
    Image.new("RGB", (45, 31), "teal").save(source)
    arguments = ["upscale", source, "--times", 2, "--seed", 5, "--strength", 300, "--device", "cpu"]
    arguments += ["--model", cascade_folder, "--out", tmp_path / "large"]
    assert main([str(argument) for argument in arguments]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert Image.open(path).size == (180, 124)
    record = read_record(path)
    assert record is not None
    assert record["upscaled"] == {"path": "photo.jpg", "sha256": sha256_of(source)}
    assert (record["seed"], record["strength"]) == (5, 300)


def test_several_pictures_are_upscaled_by_one_opening(
    generate,
    cascade_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (fox,) = generate("a red fox", "--out", tmp_path)
    photo = tmp_path / "photo.png"
    Image.new("RGB", (20, 12), "teal").save(photo)
    opened: list[str] = []
    plain = RelayPipeline.from_pretrained
    monkeypatch.setattr(
        RelayPipeline, "from_pretrained", lambda *a, **k: opened.append(a[0]) or plain(*a, **k)
    )
    arguments = ["--seed", "8", "--out", str(tmp_path / "large"), "--model", str(cascade_folder)]
    assert main(["upscale", str(fox), str(photo), *arguments, "--device", "cpu"]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    records = [read_record(path) or {} for path in paths]
    assert [(one["prompt"], one["seed"]) for one in records] == [("a red fox", 8), (None, 9)]
    assert len(opened) == 1
    readable = Image.open(paths[1]).text["parameters"]
    assert readable.startswith(f"\nUpscaled: photo.png ({sha256_of(photo)[:12]}), Doublings: 1, ")
    assert "Seed: 9, Size: 40x24, Model: " in readable


def test_upscale_takes_the_prompt_that_the_picture_carries(
    generate, cascade_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small,) = generate("a red fox", "--out", tmp_path)
    arguments = ["upscale", str(small), "--model", str(cascade_folder), "--out", str(tmp_path)]
    assert main([*arguments, "--device", "cpu"]) == 0
    record = read_record(Path(capsys.readouterr().out.strip()))
    assert record is not None and record["prompt"] == "a red fox"


def test_an_empty_prompt_of_upscale_is_none_and_stays_so(
    generate, cascade_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it was given or is in a picture; without text no text encoder need be there."""
    (small,) = generate("a red fox", "--out", tmp_path)
    without = tmp_path / "without"
    shutil.copytree(cascade_folder, without)
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(without / part)

    def upscaled(path: Path, *options: str) -> Path:
        arguments = ["--model", str(without), "--out", str(tmp_path), "--device", "cpu"]
        assert main(["upscale", str(path), *arguments, *options]) == 0
        return Path(capsys.readouterr().out.strip())

    larger = upscaled(small, "--prompt", "")
    again = upscaled(larger)
    assert [(read_record(path) or {})["prompt"] for path in (larger, again)] == [None, None]


def test_arguments_come_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "prompts").write_text("two\nthree")
    assert read_prompts(["one"], str(tmp_path / "prompts")) == ["one", "two", "three"]


def test_only_line_ends_part_prompts(tmp_path: Path) -> None:
    (tmp_path / "prompts").write_bytes("a fox\u2028on a meadow\ran owl\r\n\na cat".encode())
    prompts = read_prompts([], str(tmp_path / "prompts"))
    assert prompts == ["a fox\u2028on a meadow", "an owl", "a cat"]


def test_a_model_without_a_fast_sibling_says_so(refused) -> None:
    assert "has no fast sibling: leave --fast out, or distil it" in refused(
        "generate", "a fox", "--fast"
    )


def test_a_byte_order_mark_is_no_part_of_a_prompt(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa fox\r\nan owl\r\n".encode())
    assert read_prompts([], str(file)) == ["a fox", "an owl"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-", "--prompts", "prompts.txt"], "give one"),
        (["a fox", "--no-expand", "--expander", "scenes"], "leave one of them out"),
    ],
)
def test_options_that_contradict_each_other_are_one_line(
    arguments: list[str], said: str, refused
) -> None:
    assert said in refused("generate", *arguments)
