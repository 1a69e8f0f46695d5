"""``relay train``: stopped by the clock, taken up again, passed over when it is complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay_diffusion.cli import main
from relay_diffusion.config import dump_toml
from tests.data.drawn import drawn, write_folder
from tests.training.tiny_training import tiny_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    pictures = write_folder(tmp_path / "pictures", drawn(12))
    small = tiny_recipe(
        "autoencoder",
        tmp_path / "runs",
        run={"steps": 40, "device": "cpu", "log_every": 20},
        data={"source": "pictures", "path": str(pictures), "held_out": 0.2},
        checkpoint={"every": 1000},
    )
    file = tmp_path / "small.toml"
    file.write_text(dump_toml(small))
    return file


def checkpoints(recipe: Path) -> list[str]:
    folder = recipe.parent / "runs" / "autoencoder" / "checkpoints"
    return sorted(path.name for path in folder.glob("step-*"))


def test_a_run_stops_by_the_clock_and_goes_on(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(recipe), "--minutes", "0.00001"]) == 75
    assert "the same with --resume goes on" in capsys.readouterr().out
    (stopped,) = checkpoints(recipe)  # after a step at least, and well before the end
    assert "step-00000000" < stopped < "step-00000040"
    assert main(["train", str(recipe), "--resume"]) == 0
    assert capsys.readouterr().out.startswith("done: ")
    assert checkpoints(recipe)[-1] == "step-00000040"
    export = recipe.parent / "runs" / "autoencoder" / "export" / "vae"
    before = (export / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns
    assert main(["train", str(recipe), "--resume"]) == 0
    assert capsys.readouterr().out.startswith("done: ")
    assert (export / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns == before


def test_of_two_time_limits_the_shorter_counts(recipe: Path) -> None:
    short = ["--set", "run.max_minutes=0.00001"]
    assert main(["train", str(recipe), "--minutes", "10", *short]) == 75
    (stopped,) = checkpoints(recipe)
    assert stopped < "step-00000040"


def test_a_recipe_is_described_by_one_of_several_processes(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank, told in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        assert main(["train", str(recipe), "--dry-run"]) == 0
        assert bool(capsys.readouterr().out) == told


def test_a_folder_with_a_run_is_not_begun_anew(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(recipe)]) == 0
    capsys.readouterr()
    assert main(["train", str(recipe)]) == 2
    read, refused = capsys.readouterr().err.splitlines()
    assert "pictures to learn from" in read and "--resume" in refused


def test_a_dry_run_says_what_it_would_take_and_makes_nothing(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(recipe), "--dry-run", "--set", "run.steps=7"]) == 0
    shown = capsys.readouterr().out
    assert "steps = 7" in shown and "# vae " in shown and "7 steps of 4 are 28 samples" in shown
    assert not (recipe.parent / "runs").exists()
