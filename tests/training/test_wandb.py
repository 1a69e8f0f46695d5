"""Weights & Biases: a run that goes on here goes on there."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_training import tiny_recipe, train_tiny


def test_a_resumed_run_is_the_same_run_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, Any]] = []

    def init(**arguments: Any) -> Any:
        begun.append(arguments)
        return SimpleNamespace(finish=lambda: None)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for out, steps, resume in (("one", 1, False), ("one", 2, True), ("other", 1, False)):
        run = {"steps": steps, "wandb": "a project"}
        train_tiny(tiny_recipe("autoencoder", tmp_path / out, run=run), resume=resume)
    first, second, other = (arguments["id"] for arguments in begun)
    assert first and first == second != other
    assert all(arguments["resume"] == "allow" for arguments in begun)
