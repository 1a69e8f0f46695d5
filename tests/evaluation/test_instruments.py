"""What pictures are measured with stays out of the way while they are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from relay_diffusion.cli import main
from relay_diffusion.evaluation.cascades import CascadePainter
from tests.evaluation.test_clip import tiny_clip


def test_no_instrument_is_on_the_device_before_the_last_picture_is_made(
    cascade_folder: Path, judge_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    paint, move = CascadePainter.paint, nn.Module.to

    def paints(self: CascadePainter, *args: Any) -> Any:
        happened.append("paint")
        return paint(self, *args)

    def moves(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if type(self).__name__ in ("JudgeNetwork", "CLIPModel"):
            happened.append(type(self).__name__)
        return move(self, *args, **kwargs)

    monkeypatch.setattr(CascadePainter, "paint", paints)
    monkeypatch.setattr(nn.Module, "to", moves)
    monkeypatch.chdir(tmp_path)
    command = ["evaluate", "--model", str(cascade_folder), "--judge", str(judge_folder)]
    command += ["--clip", str(tiny_clip(tmp_path / "clip")), "--size", "64", "--steps", "1"]
    command += ["--num-prompts", "2", "--num", "1", "--batch-size", "1", "--device", "cpu"]
    assert main(command) == 0
    assert happened == ["paint"] * 3 + ["JudgeNetwork", "CLIPModel"]
