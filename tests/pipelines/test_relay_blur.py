"""A cascade samples its relay with the blur schedule that it was trained with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from relay_diffusion.cli import main
from relay_diffusion.diffusion import relay_taus, sample_relay
from relay_diffusion.errors import RelayError
from relay_diffusion.models.folder import RELAY_NOTE
from relay_diffusion.pipelines.cascade import RelayPipeline

from .tiny import PROMPT, generators


def opened(folder: Path, to: Path, **changes: Any) -> RelayPipeline:
    """A copy of a cascade with another configuration."""
    shutil.copytree(folder, to)
    index = json.loads((to / "model_index.json").read_text())
    (to / "model_index.json").write_text(json.dumps({**index, **changes}))
    pipe = RelayPipeline.from_pretrained(to)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_the_schedule_reaches_the_sampler(
    cascade_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def watched(denoise: Any, z_lr: Any, eps: Any, *, taus: Any, **kwargs: Any) -> Any:
        given.append(taus)
        return sample_relay(denoise, z_lr, eps, taus=taus, **kwargs)

    monkeypatch.setattr("relay_diffusion.pipelines.run.sample_relay", watched)
    linear = RelayPipeline.from_pretrained(cascade_folder)
    cosine = opened(cascade_folder, tmp_path / "cosine", relay_blur="cosine")
    for pipe in (linear, cosine):
        pipe(PROMPT, generator=generators(1), num_relay_steps=3)
    assert given == [relay_taus(3), relay_taus(3, "cosine")]


def test_a_schedule_that_is_none_is_named(cascade_folder: Path, tmp_path: Path) -> None:
    pipe = opened(cascade_folder, tmp_path / "odd", relay_blur="sine")
    with pytest.raises(RelayError, match="relay_blur 'sine'; allowed is linear or cosine or"):
        pipe(PROMPT)


@pytest.mark.parametrize(
    ("trained", "options", "blur"),
    [
        ({"relay_blur": "cosine"}, [], "cosine"),
        ({"relay_blur": "cosine"}, ["--set", "relay_blur=quadratic"], "quadratic"),
        (None, [], "linear"),
    ],
)
def test_assemble_takes_it_from_the_training(
    trained: dict[str, str] | None,
    options: list[str],
    blur: str,
    cascade_folder: Path,
    tmp_path: Path,
) -> None:
    export = tmp_path / "export"
    for stage in ("base_unet", "relay_unet"):
        shutil.copytree(cascade_folder / stage, export / stage)
    if trained:
        (export / RELAY_NOTE).write_text(json.dumps(trained))
    assert assembled(export, cascade_folder, tmp_path / "out", *options)["relay_blur"] == blur


def test_assemble_takes_the_start_from_the_training_and_doubts_a_higher_one(
    cascade_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = tmp_path / "export"
    for stage in ("base_unet", "relay_unet"):
        shutil.copytree(cascade_folder / stage, export / stage)
    (export / RELAY_NOTE).write_text(json.dumps({"relay_start": [300]}))
    assert assembled(export, cascade_folder, tmp_path / "as")["relay_start"] == [300]
    higher = assembled(export, cascade_folder, tmp_path / "up", "--set", "relay_start=[500]")
    assert higher["relay_start"] == [500]
    assert capsys.readouterr().err.count("relay was trained from [300]") == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("relay_start=300", "relay_start is 300, must be a list"),
        ("guidance_scale=high", "guidance_scale is 'high', must be float"),
        ("solver=3", "solver is 3, must be str"),
    ],
)
def test_a_default_of_the_wrong_type_is_refused_before_anything_is_read(
    option: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = str(tmp_path / "export")
    parts = ["--base", nowhere, "--relay", nowhere, "--shares", nowhere]
    assert main(["assemble", str(tmp_path / "out"), *parts, "--set", option]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def assembled(export: Path, lender: Path, out: Path, *options: str) -> dict[str, Any]:
    parts = ["--base", str(export), "--relay", str(export), "--shares", str(lender)]
    assert main(["assemble", str(out), *parts, *options]) == 0
    index: dict[str, Any] = json.loads((out / "model_index.json").read_text())
    return index
