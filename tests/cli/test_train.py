"""``relay train``: stopped by the clock, taken up again, passed over when it is complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay_diffusion.cli import main
from tests.data.drawn import drawn, write_folder

RECIPE = """
[run]
name = "small"
objective = "autoencoder"
steps = 40
device = "cpu"
out = "{out}"
log_every = 20

[data]
source = "pictures"
path = "{pictures}"
batch_size = 2
views = [{{ size = 32 }}]
held_out = 0.2

[model.vae]
class = "AutoencoderDC"
latent_channels = 4
encoder_block_out_channels = [8, 16, 16, 16]
decoder_block_out_channels = [8, 16, 16, 16]
encoder_layers_per_block = [0, 1, 1, 1]
decoder_layers_per_block = [0, 1, 1, 1]
encoder_qkv_multiscales = [[], [], [], []]
decoder_qkv_multiscales = [[], [], [], []]

[validation]
every = 0
num_pictures = 2
sizes = [32]

[preview]
every = 0
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    pictures = write_folder(tmp_path / "pictures", drawn(12))
    file = tmp_path / "small.toml"
    file.write_text(RECIPE.format(out=tmp_path / "runs", pictures=pictures))
    return file


def checkpoints(recipe: Path) -> list[str]:
    folder = recipe.parent / "runs" / "small" / "checkpoints"
    return sorted(path.name for path in folder.glob("step-*"))


def test_a_run_stops_by_the_clock_and_goes_on(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(recipe), "--minutes", "0.00001"]) == 0
    assert "the same with --resume goes on" in capsys.readouterr().out
    (stopped,) = checkpoints(recipe)  # after a step at least, and well before the end
    assert "step-00000000" < stopped < "step-00000040"
    assert main(["train", str(recipe), "--resume"]) == 0
    assert capsys.readouterr().out.startswith("done: ")
    assert checkpoints(recipe)[-1] == "step-00000040"
    export = recipe.parent / "runs" / "small" / "export" / "vae"
    before = (export / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns
    assert main(["train", str(recipe), "--resume"]) == 0
    assert capsys.readouterr().out.startswith("done: ")
    assert (export / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns == before


def test_a_folder_with_a_run_is_not_begun_anew(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(recipe)]) == 0
    capsys.readouterr()
    assert main(["train", str(recipe)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--resume" in line


def test_a_dry_run_says_what_it_would_take_and_makes_nothing(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(recipe), "--dry-run", "--set", "run.steps=7"]) == 0
    shown = capsys.readouterr().out
    assert "steps = 7" in shown and "# vae " in shown and "7 steps of 2 are 14 samples" in shown
    assert not (recipe.parent / "runs").exists()
