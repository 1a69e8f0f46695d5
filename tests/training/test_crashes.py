"""A run that is killed at random moments ends as one that never was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from crash_run import KILLS, recipe_of
from tiny_training import newest_state

SEED = "0"


@pytest.mark.long
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    script = Path(__file__).with_name("crash_run.py")
    command = [sys.executable, str(script), str(tmp_path), SEED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("killed") == KILLS
    killed = newest_state(recipe_of(tmp_path))
    whole = newest_state(recipe_of(tmp_path / "uninterrupted"))
    assert killed.keys() == whole.keys()
    assert [name for name in whole if not torch.equal(killed[name], whole[name])] == []
