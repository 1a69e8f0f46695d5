"""A cascade and its fast sibling from the command line: put together, and pictures of both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from relay_diffusion.cli import main
from relay_diffusion.models.folder import STUDENT_NOTE, part_folder, read_index
from relay_diffusion.pipelines.cascade import RelayPipeline
from relay_diffusion.pipelines.metadata import read_parameters, read_record


@pytest.fixture
def full(cascade_folder: Path, distilled: RelayPipeline, tmp_path: Path) -> Path:
    """A cascade with other defaults than students can have, and beside it the sibling it names."""
    folder = Path(shutil.copytree(cascade_folder, tmp_path / "full"))
    index = read_index(folder)
    index |= {"fast_sibling": "../fast", "guidance_scale": 7.5, "solver": "multistep"}
    (folder / "model_index.json").write_text(json.dumps(index))
    students = tmp_path / "students"
    distilled.save_pretrained(students)
    told = {"num_steps": 2, "guidance": [1.0, 6.0], "start": 300}
    (students / STUDENT_NOTE).write_text(json.dumps(told))
    arguments = ["--base", str(students), "--relay", str(students), "--shares", "../full"]
    # Of this one folder, what the students share as well.
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(students / part)
    assert main(["assemble", str(tmp_path / "fast"), *arguments]) == 0
    return folder


@pytest.fixture
def generate(full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()

    def run(*arguments: object) -> Path:
        args = [*map(str, arguments), "--out", str(tmp_path / "out"), "--device", "cpu"]
        assert main(["generate", *args]) == 0
        return Path(capsys.readouterr().out.strip())

    return run


def settings(picture: Path) -> tuple[int, int, float, str, float]:
    made = read_parameters(picture)
    steps = made.num_inference_steps, made.num_relay_steps
    return *steps, made.guidance_scale, made.solver, made.eta


def test_students_are_assembled_with_defaults_that_they_were_taught(full: Path) -> None:
    index = read_index(full.parent / "fast")
    assert index["guidance_range"] == [1.0, 6.0]
    assert (index["guidance_scale"], index["solver"]) == (6.0, "euler")


def test_a_cascade_to_share_with_may_be_named_from_the_working_directory(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = ["--base", "students", "--relay", "students", "--shares", "full"]
    assert main(["assemble", "made/fast", *parts]) == 0
    assert read_index(tmp_path / "made" / "fast")["shares"] == "../../full"
    monkeypatch.chdir("/")
    assert part_folder(tmp_path / "made" / "fast", "vae") == full / "vae"


@pytest.mark.slow
def test_another_model_makes_a_picture_again_with_its_own_steps(generate, full: Path) -> None:
    options = "--seed", 3, "--size", "64x128", "--steps", 5, "--eta", 0.3
    first = generate("a red fox", "--model", full, *options)
    assert settings(first) == (5, 2, 7.5, "multistep", 0.3)
    for other in (["--fast"], ["--model", full.parent / "fast"]):
        fast = generate("--from", first, *other)
        assert settings(fast) == (2, 2, 6.0, "euler", 0.0)
        made = read_parameters(fast)
        assert (made.prompt, made.seed, made.width, made.height) == ("a red fox", 3, 64, 128)
    assert settings(generate("--from", first, "--fast", "--guidance", 2))[2] == 2
    back = generate("--from", fast, "--model", full)
    assert settings(back) == (3, 2, 7.5, "multistep", 0.0)
    again = generate("--from", first, "--model", f"{full}/../full")
    assert settings(again) == settings(first)


def test_a_fast_picture_is_made_again_as_it_was(generate, full: Path) -> None:
    first = generate("a red fox", "--model", full, "--fast", "--seed", 3, "--guidance", 2)
    for options in ([], ["--fast"], ["--fast", "--model", full]):
        again = generate("--from", first, *options)
        assert settings(again) == settings(first)
        assert Image.open(again).tobytes() == Image.open(first).tobytes()


def test_a_negative_prompt_that_was_not_read_is_not_kept(
    generate, full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = generate("a red fox", "--model", full, "--negative", "art")
    assert read_parameters(first).negative_prompt == "art"
    fast = generate("--from", first, "--fast")
    assert read_parameters(fast).negative_prompt is None
    for options, kept in ([], "art"), (["--fast"], None):
        arguments = ["upscale", str(first), "--model", str(full), "--negative", "art", *options]
        assert main([*arguments, "--out", str(tmp_path), "--device", "cpu"]) == 0
        record = read_record(Path(capsys.readouterr().out.strip()))
        assert record is not None and record["negative_prompt"] == kept


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"--base": "nope"}, "--base nope is no folder: give the export folder of a run"),
        ({"--relay": "{tmp}"}, "--relay {tmp} holds no relay_unet: give the export folder"),
        ({"--autoencoder": "nope"}, "--autoencoder nope is no folder: give the export folder of"),
        ({"--card": "nope.md"}, "--card nope.md cannot be read as a model card"),
    ],
)
def test_what_cannot_be_assembled_is_named(
    changed: dict[str, str],
    complaint: str,
    cascade_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = {"--base": str(cascade_folder), "--relay": str(cascade_folder)}
    options |= {name: value.format(tmp=tmp_path) for name, value in changed.items()}
    arguments = [part for option in options.items() for part in option]
    assert main(["assemble", str(tmp_path / "out"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint.format(tmp=tmp_path) in line
