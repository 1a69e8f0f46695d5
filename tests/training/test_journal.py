from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from relay_diffusion.training.journal import Journal

from .tiny_training import tiny_recipe


def test_without_tensorboard_a_run_says_so_and_writes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    recipe = tiny_recipe("base", tmp_path)
    with Journal(recipe, 0, torch.device("cpu")) as journal:
        journal.write(1, loss=0.5)
        journal.pictures(1, torch.zeros(3, 3, 8, 8), columns=2)
    log = (recipe.folder / "log.jsonl").read_text()
    said, figures = map(json.loads, log.splitlines())
    assert "pip install tensorboard" in said["note"] and figures == {"step": 1, "loss": 0.5}
    assert (recipe.folder / "samples" / "step-00000001.png").is_file()
    assert not (recipe.folder / "tensorboard").exists()


def test_without_a_terminal_figures_are_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe("base", tmp_path, run={"steps": 8}, data={"batch_size": 4})
    with Journal(recipe, 0, torch.device("cpu")) as journal:
        for _ in range(2):
            journal.step(0.0, loss=torch.tensor(0.5))
        journal.report(2, 1e-3)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "step 2" in line]
    assert re.fullmatch(r"step 2 of 8: loss 0\.5, \S+ samples/s, \d+\.\d minutes left", line)
