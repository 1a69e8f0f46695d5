"""From pictures in a folder to a picture made with the adapter, as a user would."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save_file
from transformers.utils import logging

from relay_diffusion.cli import main
from relay_diffusion.cli.adapters import parse_adapter
from relay_diffusion.models.checkpoint import read_safetensors
from relay_diffusion.models.lora import LORA_FILE
from relay_diffusion.pipelines.metadata import read_parameters, read_record

RECIPE = """
[run]
name = "fox"
objective = "base"
steps = 3
[data]
source = "pictures"
batch_size = 2
views = [{ size = 32 }]
[lora]
rank = 2
dora = true
[optimizer]
lr = 0.5
warmup = 0
[validation]
every = 3
num_pictures = 1
[preview]
every = 0
"""


@pytest.fixture(scope="module")
def adapter(cascade_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``relay train`` makes of a recipe and four pictures."""
    folder = tmp_path_factory.mktemp("lora")
    (folder / "pictures").mkdir()
    for index, colour in enumerate(("red", "blue", "green", "teal")):
        Image.new("RGB", (40, 40), colour).save(folder / "pictures" / f"{index}.png")
        (folder / "pictures" / f"{index}.txt").write_text("a red fox")
    (folder / "recipe.toml").write_text(RECIPE)
    changes = (
        f"run.out={folder}",
        f"data.path={folder / 'pictures'}",
        f"model.cascade={cascade_folder}",
    )
    arguments = [part for change in changes for part in ("--set", change)]
    assert main(["train", str(folder / "recipe.toml"), *arguments]) == 0
    return folder / "fox" / "export" / "lora"


def test_a_picture_made_with_adapters_is_made_again(
    generate, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fox = ("a red fox", "--seed", 3)
    plain = generate(*fox)
    off = generate(*fox, "--lora", f"{adapter}:0")
    once = generate(*fox, "--lora", f"{adapter}:0.6", "--lora", adapter)
    assert Image.open(off).tobytes() == Image.open(plain).tobytes()
    assert Image.open(once).tobytes() != Image.open(plain).tobytes()
    used = read_parameters(once).adapters
    assert [(one.path, one.scale) for one in used] == [(str(adapter), 0.6), (str(adapter), 1.0)]
    assert f"Adapters: {adapter}:0.6 ({used[0].sha256[:12]})" in Image.open(once).text["parameters"]
    assert generate("--from", once).read_bytes() == once.read_bytes()
    without = generate("--from", once, "--lora", f"{adapter}:0")
    assert Image.open(without).tobytes() == Image.open(plain).tobytes()

    small = generate(*fox, "--low-memory", "--lora", adapter)
    assert Image.open(small).tobytes() != Image.open(plain).tobytes()


def test_training_says_where_it_is_and_no_more(
    adapter: Path, cascade_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logging.enable_progress_bar()
    folder = adapter.parents[2]
    changes = (
        f"run.out={tmp_path}",
        f"data.path={folder / 'pictures'}",
        f"model.cascade={cascade_folder}",
    )
    arguments = [part for change in changes for part in ("--set", change)]
    assert main(["train", str(folder / "recipe.toml"), *arguments]) == 0
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].endswith("3 pictures to learn from, each 2 times; 1 held out")
    assert lines[1].startswith("trains to ")
    assert all(line.startswith("step ") for line in lines[2:])


def test_a_picture_made_elsewhere_says_whose_path_is_missing(
    generate,
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(adapter)
    picture = generate("a red fox", "--lora", ".:0.5")
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--from", str(picture)]) == 2
    assert "--lora FOLDER:0.5 says where the adapter is now" in capsys.readouterr().err


def test_an_adapter_of_the_base_stage_has_no_part_in_upscaling(
    generate, adapter: Path, cascade_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = generate("a red fox")
    arguments = ["upscale", str(picture), "--model", str(cascade_folder), "--lora"]
    assert main([*arguments, str(adapter)]) == 2
    assert "is for the base stage, which has no part in upscaling" in capsys.readouterr().err


def test_an_adapter_further_down_is_named(
    adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "a red fox", "--lora", str(adapter.parents[1])]) == 2
    assert f"the folder {adapter} has one" in capsys.readouterr().err


def test_an_adapter_that_has_changed_is_noticed(
    generate, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    content = (adapter / LORA_FILE).read_bytes()
    (copy / LORA_FILE).write_bytes(content)
    picture = generate("a red fox", "--lora", copy)
    (copy / LORA_FILE).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert main(["generate", "--from", str(picture), "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"the adapter {copy} has changed since" in line
    generate("--from", picture, "--lora", copy)


def test_upscaling_takes_adapters_and_records_them(
    adapter: Path, cascade_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored, metadata = read_safetensors(adapter / LORA_FILE)
    of_relay = {key.replace("base_unet.", "relay_unet."): value for key, value in stored.items()}
    metadata = {key: text.replace("base_unet.", "relay_unet.") for key, text in metadata.items()}
    save_file(of_relay, tmp_path / LORA_FILE, metadata)
    adapter = tmp_path
    Image.new("RGB", (32, 32), "teal").save(tmp_path / "photo.png")
    arguments = ["upscale", tmp_path / "photo.png", "--lora", f"{adapter}:0.5", "--device", "cpu"]
    arguments += ["--model", cascade_folder, "--out", tmp_path / "large"]
    assert main([str(argument) for argument in arguments]) == 0
    record = read_record(Path(capsys.readouterr().out.strip()))
    assert record is not None
    assert [(one["path"], one["scale"]) for one in record["adapters"]] == [(str(adapter), 0.5)]


@pytest.mark.parametrize(
    ("lora", "complaint"),
    [
        ("nowhere", "there is no adapter nowhere"),
        ("nowhere:strong", "there is no adapter nowhere:strong"),
        ("{adapter}:nan", "the scale of an adapter is nan"),
        ("{cascade}/base_unet/diffusion_pytorch_model.safetensors", "is no adapter of a cascade"),
    ],
)
def test_what_is_no_adapter_is_one_line(
    adapter: Path,
    cascade_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lora: str,
    complaint: str,
) -> None:
    named = lora.format(adapter=adapter, cascade=cascade_folder)
    arguments = ["generate", "a fox", "--lora", named, "--model", str(cascade_folder)]
    assert main([*arguments, "--out", str(tmp_path), "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


def test_a_scale_follows_the_last_colon() -> None:
    assert parse_adapter("runs/fox") == ("runs/fox", 1.0)
    assert parse_adapter("runs/fox:0.8") == ("runs/fox", 0.8)
    assert parse_adapter("c:/fox:-1") == ("c:/fox", -1.0)
    assert parse_adapter("c:/fox") == ("c:/fox", 1.0)
