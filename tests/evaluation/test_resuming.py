"""Runs that end badly, and those that go on after them in the same folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from relay_diffusion.errors import RelayError
from relay_diffusion.evaluation.cascades import CascadePainter
from relay_diffusion.locks import alone_in
from tests.evaluation.conftest import Paint


def test_a_batch_size_that_was_too_large_may_be_lowered(
    paint: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = CascadePainter.paint

    def paints_two(self: CascadePainter, texts: Any, seeds: Any) -> Any:
        if len(texts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, texts, seeds)

    monkeypatch.setattr(CascadePainter, "paint", paints_two)
    with pytest.raises(RelayError, match="there is not enough memory for it"):
        paint(tmp_path, batch=3)
    assert paint(tmp_path, batch=2)["settings"]["batch_size"] == 2
    with pytest.raises(RelayError, match="with batch_size 2, and now it is 1"):
        paint(tmp_path, batch=1)


def test_two_runs_are_not_in_one_folder_at_a_time(paint: Paint, tmp_path: Path) -> None:
    with alone_in(tmp_path / "out", ""):
        with pytest.raises(RelayError, match="another relay evaluate is at work in"):
            paint(tmp_path / "out")
        assert not (tmp_path / "out" / "run.json").exists()
    assert paint(tmp_path / "out")["models"]


@pytest.mark.parametrize("names", [("my prompts", "my-prompts"), ("mine", "mine")])
def test_two_suites_do_not_share_pictures(
    names: tuple[str, str], paint: Paint, tmp_path: Path
) -> None:
    with pytest.raises(RelayError, match="would share their folder of pictures, m"):
        paint(tmp_path, names=names)
