"""What stages were trained for is what the cascade of them is, or it is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from relay_diffusion.cli import main
from relay_diffusion.models.folder import STAGE_NOTE, read_index
from relay_diffusion.models.hashes import network_hash


@pytest.fixture
def parts(cascade_folder: Path, tmp_path: Path) -> dict[str, Path]:
    """Two exports with the notes that training writes."""
    notes = {
        "base": {"prediction_type": "epsilon", "max_tokens": 7, "base_size": 24},
        "relay": {"prediction_type": "epsilon", "max_tokens": 7},
    }
    for name, note in notes.items():
        export = tmp_path / name
        shutil.copytree(cascade_folder / f"{name}_unet", export / f"{name}_unet")
        (export / STAGE_NOTE).write_text(json.dumps(note))
    return {**{name: tmp_path / name for name in notes}, "shares": cascade_folder}


def assemble(out: Path, parts: dict[str, Path], *more: str) -> int:
    given = [f"--{name}={folder}" for name, folder in parts.items()]
    return main(["assemble", str(out), *given, *more])


def test_what_was_trained_is_the_default(parts: dict[str, Path], tmp_path: Path) -> None:
    assert assemble(tmp_path / "made", parts) == 0
    index = read_index(tmp_path / "made")
    assert (index["max_tokens"], index["base_size"]) == (7, 24)
    assert assemble(tmp_path / "larger", parts, "--set", "base_size=48") == 0
    assert read_index(tmp_path / "larger")["base_size"] == 48


@pytest.mark.parametrize("stage", ["base", "relay"])
@pytest.mark.parametrize(("key", "other"), [("prediction_type", "v_prediction"), ("max_tokens", 9)])
def test_a_stage_of_another_kind_is_refused(
    stage: str,
    key: str,
    other: str | int,
    parts: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    note = json.loads((parts[stage] / STAGE_NOTE).read_text())
    (parts[stage] / STAGE_NOTE).write_text(json.dumps({**note, key: other}))
    assert assemble(tmp_path / "made", parts) == 2
    assert f"was trained with {key} " in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_a_stage_that_knows_other_latents_is_told(
    parts: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for told, known in (("f" * 64, 1), (network_hash(parts["shares"] / "vae"), 0)):
        note = json.loads((parts["relay"] / STAGE_NOTE).read_text())
        (parts["relay"] / STAGE_NOTE).write_text(json.dumps({**note, "vae": told}))
        caplog.clear()
        assert assemble(tmp_path / told[:4], parts) == 0
        lines = [m for m in caplog.messages if "on the latents of another autoencoder" in m]
        assert len(lines) == known and all("relay_unet was trained" in line for line in lines)
